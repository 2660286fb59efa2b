//! The rows of reports that readers should find, while the structures that they come from are made.

use super::builder::Builder;
use super::error::Error;
use super::truth::SectionRow;

/// Per-CPU memory, and the rows that readers should find.
pub(crate) struct Made<'b, 'a> {
    pub(crate) b: &'b mut Builder<'a>,
    /// The address of CPU 0's copy of the next counter.
    pub(crate) next: u64,
    /// What is subtracted from addresses in per-CPU pointers.
    pub(crate) pcpu: u64,
    pub(crate) cpus: u64,
    pub(crate) rows: Vec<SectionRow>,
}

impl Made<'_, '_> {
    pub(crate) fn row(&mut self, section: &'static str, cells: &[&dyn std::fmt::Display]) {
        let cells = cells.iter().map(ToString::to_string).collect();
        self.rows.push(SectionRow { section, cells });
    }

    /// Makes per-CPU words with these sums, the same address for each CPU a page apart. Returns the
    /// pointer.
    pub(crate) fn per_cpu(&mut self, sums: &[u64]) -> Result<u64, Error> {
        let at = self.next;
        for (i, sum) in sums.iter().enumerate() {
            for cpu in 0..self.cpus {
                // The last CPU has the rest. Single CPUs can have more frees than allocations.
                let value = match cpu + 1 == self.cpus {
                    true => sum.wrapping_sub(cpu * 3),
                    false => 3,
                };
                let page = self.b.space.page_size;
                self.b.poke_u64(at + 8 * i as u64 + cpu * page, value)?;
            }
        }
        self.next += 8 * sums.len() as u64;
        Ok(at.wrapping_sub(self.pcpu))
    }

    pub(crate) fn text(&mut self, text: &str) -> Result<u64, Error> {
        let at = self.b.slab(64)?;
        self.b.poke(at, text.as_bytes())?;
        Ok(at)
    }
}
