//! Interrupts, files, swap, devices, modules, ddb's capture buffer, the kernel's configuration.
//!
//! FreeBSD `sys/x86/x86/intr_machdep.c`, `sys/vm/swap_pager.h`, `sys/sys/devicestat.h`,
//! `sys/ddb/db_capture.c`, `sys/kern/kern_mib.c`.

use livecore_defs::statistics::{
    DDB_CAPTURE_MAXBUFSIZE, DEVSTAT_READ, DEVSTAT_WRITE, INTRNAME_MAX,
};
use livecore_minidump::VirtAddr;

use crate::error::KernelError;

use super::Cell;
use super::reader::Reader;

type Rows = Result<Vec<Vec<Cell>>, KernelError>;

/// The maximum number of interrupts.
const INTERRUPTS: u64 = 1 << 16;
/// The maximum size of a text with lines.
const TEXT: u64 = DDB_CAPTURE_MAXBUFSIZE;
/// The maximum number of lines of a text.
const LINES: usize = 1 << 16;

/// Interrupts that have occurred.
pub(super) fn interrupts(reader: &mut Reader<'_>) -> Rows {
    let kernel = reader.kernel;
    let count = match kernel.variable("nintrcnt", 4) {
        Ok(count) => count,
        // The bytes of the counts.
        Err(_) => kernel.long("sintrcnt")? / reader.word(),
    };
    if count > INTERRUPTS {
        return Err(KernelError::Implausible {
            what: "nintrcnt".into(),
            found: count,
            expected: "at most 65536 interrupts",
        });
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    // The length of a name depends on the machine.
    let name_len = kernel.long("sintrnames")? / count;
    if name_len == 0 || name_len > INTRNAME_MAX {
        return Err(KernelError::Implausible {
            what: "sintrnames / nintrcnt".into(),
            found: name_len,
            expected: "1 to 256 bytes for each name",
        });
    }
    // Arrays until 12, pointers since.
    let place = |name: &str| -> Result<VirtAddr, KernelError> {
        let at = kernel.address(name)?;
        let symbol = kernel.elf().symbol(name);
        match symbol.is_some_and(|symbol| symbol.size == reader.word()) {
            true => kernel.pointer_at(name, at),
            false => Ok(at),
        }
    };
    let (counts, names) = (place("intrcnt")?, place("intrnames")?);
    let mut rows = Vec::new();
    for i in 0..count {
        let at = counts.wrapping_add(i * reader.word());
        let total = kernel.long_at("intrcnt", at)?;
        let name = names.wrapping_add(i * name_len);
        let name = reader.text(name, name_len as usize);
        if total > 0 {
            rows.push(vec![name.trim_end().to_string().into(), total.into()]);
        }
    }
    Ok(rows)
}

/// Open files, vnodes and swap, with their limits.
pub(super) fn resources(reader: &mut Reader<'_>) -> Rows {
    let mut rows = Vec::new();
    for (name, used, limit) in [
        ("files", ("openfiles", 4), Some(("maxfiles", 4))),
        (
            "vnodes",
            ("numvnodes", reader.word()),
            Some(("desiredvnodes", 4)),
        ),
    ] {
        let used = reader.kernel.variable(used.0, used.1 as usize);
        let used = reader.known(used);
        let limit = limit.and_then(|(symbol, size)| {
            let limit = reader.kernel.variable(symbol, size);
            reader.known(limit)
        });
        rows.push(vec![name.to_string().into(), used.into(), limit.into()]);
    }
    let devices = swap(reader);
    if let Some(devices) = reader.known(devices) {
        let sum = |column: usize| {
            let cells = devices.iter().filter_map(|row| row.get(column));
            cells.fold(0_u64, |sum, cell| match cell {
                Cell::Number(pages) => sum.saturating_add(*pages),
                _ => sum,
            })
        };
        rows.push(vec![
            "swap pages".to_string().into(),
            sum(2).into(),
            sum(1).into(),
        ]);
    }
    Ok(rows)
}

/// Swap devices, in pages.
pub(super) fn swap(reader: &mut Reader<'_>) -> Rows {
    let head = reader.kernel.address("swtailq")?;
    let next = reader.member("swdevt", "sw_list")?.offset;
    let mut rows = Vec::new();
    for at in reader.list("swtailq", head, next) {
        let device = reader.field(at, "swdevt", "sw_dev")?;
        rows.push(vec![
            Cell::Address(device),
            reader.field(at, "swdevt", "sw_nblks")?.into(),
            reader.field(at, "swdevt", "sw_used")?.into(),
        ]);
    }
    Ok(rows)
}

/// Devices with statistics.
pub(super) fn devices(reader: &mut Reader<'_>) -> Rows {
    let head = reader.kernel.address("device_statq")?;
    let next = reader.member("devstat", "dev_links")?.offset;
    let mut rows = Vec::new();
    for at in reader.list("device_statq", head, next) {
        let place = |member| reader.place(at, "devstat", member);
        let (name, bytes, operations) =
            (place("device_name")?, place("bytes")?, place("operations")?);
        let element = |array: VirtAddr, i: u64| {
            let value = array.wrapping_add(8 * i);
            reader.kernel.uint_at("devstat", value, 8)
        };
        let unit = reader.field(at, "devstat", "unit_number")?;
        rows.push(vec![
            format!("{}{unit}", reader.text(name, 16)).into(),
            element(operations, DEVSTAT_READ)?.into(),
            element(operations, DEVSTAT_WRITE)?.into(),
            element(bytes, DEVSTAT_READ)?.into(),
            element(bytes, DEVSTAT_WRITE)?.into(),
        ]);
    }
    Ok(rows)
}

/// Loaded modules, the kernel first.
pub(super) fn modules(reader: &mut Reader<'_>) -> Rows {
    let modules = reader.kernel.modules()?;
    for problem in &modules.problems {
        reader.problem(problem);
    }
    let rows = modules.list.iter().map(|module| {
        vec![
            module.name.clone().into(),
            Cell::Address(module.address.0),
            module.size.into(),
            module.path.clone().into(),
        ]
    });
    Ok(rows.collect())
}

/// The lines of ddb's capture buffer.
pub(super) fn capture(reader: &mut Reader<'_>) -> Rows {
    let len = reader.kernel.variable("db_capture_bufoff", 4)?;
    let at = reader.kernel.pointer("db_capture_buf")?;
    lines(reader, at, len)
}

/// The configuration in a kernel with `INCLUDE_CONFIG_FILE`.
pub(super) fn config(reader: &mut Reader<'_>) -> Rows {
    let at = reader.kernel.address("kernconfstring")?;
    let size = reader.kernel.elf().symbol("kernconfstring").map(|s| s.size);
    // Assemblers do not give the string a size.
    let size = size.filter(|size| *size > 0).unwrap_or(TEXT);
    lines(reader, at, size)
}

/// The lines of `len` bytes at `at`, up to a NUL.
fn lines(reader: &mut Reader<'_>, at: VirtAddr, len: u64) -> Rows {
    if at == VirtAddr(0) {
        return Ok(Vec::new());
    }
    if len > TEXT {
        reader.problem(&format!("{len} bytes of text, read {TEXT}"));
    }
    let text = reader.text(at, len.min(TEXT) as usize);
    let mut lines = text.lines();
    let rows = lines.by_ref().take(LINES);
    let rows = rows.map(|line| vec![line.to_string().into()]).collect();
    if lines.next().is_some() {
        reader.problem(&format!("more than {LINES} lines"));
    }
    Ok(rows)
}
