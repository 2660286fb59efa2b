//! Physical memory by class, as a chart and a table.

use livecore_minidump::AnyDump;
use std::ops::ControlFlow;

use super::tags::{put, table};
use crate::text::Short;

/// Columns of the chart.
const COLUMNS: u64 = 120;

/// The maximum average number of mappings of a page.
const MAPPINGS: u64 = 64;

/// Pages of each class in a part of the memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Classes {
    /// In the dump and in the kernel map.
    mapped: u64,
    /// In the dump otherwise.
    direct: u64,
    /// Not in the dump.
    absent: u64,
}

/// The memory of a dump.
pub(super) struct Memory {
    page_size: u64,
    /// In the order of addresses.
    columns: Vec<Classes>,
    total: Classes,
    /// Whether the dump has the machine's ranges of memory, so that absent pages are known.
    is_complete: bool,
}

impl Memory {
    /// Classifies the pages of a minidump with at most `limit` bytes. `None` for other dumps, and if
    /// the limit is exceeded or the page tables cannot be read.
    pub(super) fn of(dump: &AnyDump, limit: u64) -> Option<Self> {
        let mini = dump.minidump()?;
        let (avail, bitmap) = (mini.dump_avail(), mini.bitmap());
        let bits = avail.bits();
        let page_size = mini.layout().page_size();
        if bits == 0 || bits / 8 > limit {
            return None;
        }
        let mut mapped = vec![0_u64; usize::try_from(bits.div_ceil(64)).ok()?];
        // Damaged tables can map each page any number of times.
        let mut left = bits.saturating_mul(MAPPINGS);
        let walked = mini.walk(&mut |mapping| {
            for skip in (0..mapping.len).step_by(page_size as usize) {
                left -= 1;
                if left == 0 {
                    return ControlFlow::Break(());
                }
                let bit = mapping.pa.checked_add(skip).and_then(|pa| avail.bit_of(pa));
                if let Some(bit) = bit {
                    mapped[(bit / 64) as usize] |= 1 << (bit % 64);
                }
            }
            ControlFlow::Continue(())
        });
        walked.ok().filter(|_| left > 0)?;
        let columns = bits.min(COLUMNS);
        let mut found = vec![Classes::default(); columns as usize];
        let mut total = Classes::default();
        for bit in 0..bits {
            let in_dump = bitmap.contains(bit);
            let is_mapped = mapped[(bit / 64) as usize] >> (bit % 64) & 1 == 1;
            // Both factors are below 2^57.
            let column = (u128::from(bit) * u128::from(columns) / u128::from(bits)) as usize;
            for classes in [&mut found[column], &mut total] {
                match (in_dump, is_mapped) {
                    (true, true) => classes.mapped += 1,
                    (true, false) => classes.direct += 1,
                    (false, _) => classes.absent += 1,
                }
            }
        }
        Some(Self {
            page_size,
            columns: found,
            total,
            is_complete: avail.is_known(),
        })
    }

    /// The section.
    pub(super) fn html(&self) -> String {
        let absent = match self.is_complete {
            true => "Not in the dump: user and free pages, or excluded by the kernel",
            false => "Not in the dump, or no memory",
        };
        let rows = [
            (
                "c1",
                "In the dump, mapped by the kernel map",
                self.total.mapped,
            ),
            (
                "c2",
                "In the dump, mapped by the direct map only",
                self.total.direct,
            ),
            ("c3", absent, self.total.absent),
        ];
        let all: u64 = rows.iter().map(|(_, _, pages)| pages).sum();
        let mut label = String::from("Physical memory in the order of addresses.");
        for (_, name, pages) in &rows {
            put!(label, " {name}: {} %.", percent(*pages, all));
        }
        let mut out = format!(
            "<svg viewBox=\"0 0 960 170\" shape-rendering=\"crispEdges\" role=\"img\" aria-label=\"{label}\">\n"
        );
        let width = 960.0 / self.columns.len() as f64;
        for (i, classes) in self.columns.iter().enumerate() {
            let sum = (classes.mapped + classes.direct + classes.absent).max(1);
            let mut top = 140.0;
            let parts = [
                ("c1", classes.mapped),
                ("c2", classes.direct),
                ("c3", classes.absent),
            ];
            for (class, pages) in parts.into_iter().filter(|(_, pages)| *pages > 0) {
                let height = 140.0 * pages as f64 / sum as f64;
                top -= height;
                put!(
                    out,
                    "<rect class=\"{class}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
                     height=\"{height:.1}\"/>",
                    i as f64 * width,
                    width
                );
            }
        }
        put!(
            out,
            "\n<text x=\"0\" y=\"160\">lowest address</text>\
             <text x=\"960\" y=\"160\" text-anchor=\"end\">highest address</text></svg>\n"
        );
        let mut body = String::new();
        for (class, name, pages) in rows {
            put!(
                body,
                "<tr><th scope=\"row\"><svg class=\"swatch\" viewBox=\"0 0 10 10\" aria-hidden=\"true\">\
                 <rect class=\"{class}\" width=\"10\" height=\"10\"/></svg> {name}</th>\
                 <td class=\"n\">{pages}</td><td class=\"n\">{}</td><td class=\"n\">{} %</td></tr>\n",
                Short(pages.saturating_mul(self.page_size)),
                percent(pages, all)
            );
        }
        let columns = [
            ("Class", false),
            ("Pages", true),
            ("Size", true),
            ("Share", true),
        ];
        let caption = format!("Pages of {} bytes, by class", self.page_size);
        out + &table(&caption, &columns, &body)
    }
}

/// A share in percent with one decimal.
fn percent(part: u64, all: u64) -> String {
    format!("{:.1}", part as f64 * 100.0 / all.max(1) as f64)
}
