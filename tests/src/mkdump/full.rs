//! Full dumps: an ELF core with one segment per range of dump_avail.
//!
//! FreeBSD `sys/kern/kern_dump.c`, `dumpsys_generic`.

use super::arch::Tables;
use super::content::put_number;
use super::error::{BuildError, Result};
use super::recipe::Recipe;

/// The largest memory in bytes.
const MAX_MEMORY: u64 = 1 << 28;

struct Segment {
    kind: u64,
    flags: u64,
    va: u64,
    pa: u64,
    size: u64,
    align: u64,
}

/// The payload: headers padded to a page, then every range in order. Undefined pages are zeros.
pub(crate) fn build(recipe: &Recipe) -> Result<Vec<u8>> {
    let memory: u64 = recipe.avail.iter().map(|(start, end)| end - start).sum();
    if memory > MAX_MEMORY {
        let expected = format!("at most {MAX_MEMORY:#x}");
        return Err(BuildError::Value {
            line: 0,
            what: "memory",
            found: memory,
            expected,
        });
    }
    let arch = recipe.kind.arch();
    let page = recipe.page_size;
    let mut segments = Vec::new();
    let arm = || {
        let pa = recipe.avail.first().map_or(0, |pair| pair.0);
        (arch.tables == Tables::Arm).then(|| (recipe.kernbase(), pa, 0))
    };
    if let Some((va, pa, align)) = recipe.delta.or_else(arm) {
        // PT_DUMP_DELTA
        segments.push(Segment {
            kind: 0x6fb5_d000,
            flags: if align == 0 { 0 } else { 4 },
            va,
            pa,
            size: 0,
            align,
        });
    }
    for (start, end) in &recipe.avail {
        // powerpc has no virtual addresses in its segments.
        let va = if arch.tables == Tables::Hashed {
            u64::MAX
        } else {
            *start
        };
        segments.push(Segment {
            kind: 1,
            flags: 4,
            va,
            pa: *start,
            size: end - start,
            align: page,
        });
    }
    let mut out = headers(recipe, &segments)?;
    out.resize(out.len().next_multiple_of(page as usize), 0);
    for (start, end) in &recipe.avail {
        let mut pa = *start;
        while pa < *end {
            let len = page.min(end - pa) as usize;
            match recipe.pages.get(&pa) {
                Some(bytes) => out.extend_from_slice(&bytes[..len]),
                None => out.resize(out.len() + len, 0),
            }
            pa += page;
        }
    }
    Ok(out)
}

fn headers(recipe: &Recipe, segments: &[Segment]) -> Result<Vec<u8>> {
    let arch = recipe.kind.arch();
    let wide = arch.long == 8;
    let mut out = vec![
        0x7f,
        b'E',
        b'L',
        b'F',
        1 + u8::from(wide),
        1 + u8::from(arch.big),
        1,
        255,
    ];
    out.resize(16, 0);
    let (ehdr, phdr, shdr): (u64, u64, u64) = if wide { (64, 56, 64) } else { (52, 32, 40) };
    let long = arch.long;
    let count = segments.len() as u64;
    let mut offset = (ehdr + phdr * count).next_multiple_of(recipe.page_size);
    let mut put = |value: u64, width: usize| put_number(&mut out, value, width, arch.big, 0);
    // ET_CORE, machine, version 0, entry, program headers, section headers, flags.
    for (value, width) in [
        (4, 2),
        (machine(arch.tables), 2),
        (0, 4),
        (0, long),
        (ehdr, long),
    ] {
        put(value, width)?;
    }
    for (value, width) in [
        (0, long),
        (0, 4),
        (ehdr, 2),
        (phdr, 2),
        (count, 2),
        (shdr, 2),
    ] {
        put(value, width)?;
    }
    put(0, 2)?;
    put(0, 2)?;
    for s in segments {
        let at = if s.size == 0 { 0 } else { offset };
        let fields: &[(u64, usize)] = if wide {
            &[
                (s.kind, 4),
                (s.flags, 4),
                (at, 8),
                (s.va, 8),
                (s.pa, 8),
                (s.size, 8),
                (s.size, 8),
            ]
        } else {
            &[
                (s.kind, 4),
                (at, 4),
                (s.va, 4),
                (s.pa, 4),
                (s.size, 4),
                (s.size, 4),
                (s.flags, 4),
            ]
        };
        for (value, width) in fields {
            put(*value, *width)?;
        }
        put(s.align, long)?;
        offset += s.size;
    }
    Ok(out)
}

/// `e_machine`.
fn machine(tables: Tables) -> u64 {
    match tables {
        Tables::Amd64 => 62,
        Tables::Arm64 => 183,
        Tables::Riscv => 243,
        Tables::I386 { .. } => 3,
        Tables::Arm => 40,
        Tables::Hashed => 21,
        Tables::Mips { .. } => 8,
    }
}
