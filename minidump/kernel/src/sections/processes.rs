//! Processes, and their open files.
//!
//! FreeBSD `sys/sys/{proc,ucred,filedesc,file}.h`, `sys/vm/vm_map.h`.

use livecore_defs::statistics::FILE_TYPES;
use livecore_minidump::VirtAddr;

use crate::error::KernelError;
use crate::process::Process;

use super::Cell;
use super::reader::Reader;

type Rows = Result<Vec<Vec<Cell>>, KernelError>;

/// The maximum number of bytes of arguments that are read.
const ARGUMENTS: u64 = 4096;
/// The maximum number of bytes of arguments of all processes.
const ALL_ARGUMENTS: u64 = 16 << 20;
/// The maximum number of open files that are listed.
const FILES: usize = 1 << 17;
/// The maximum number of descriptors of a process.
const DESCRIPTORS: u64 = 1 << 20;

/// Processes, one row each, with the state and wait message of the first thread.
pub(super) fn table(reader: &mut Reader<'_>, list: &[Process]) -> Rows {
    // One message instead of one for each process.
    let mut members = vec![
        ("ucred", "cr_uid"),
        ("thread", "td_priority"),
        ("vmspace", "vm_map.size"),
        ("pargs", "ar_args"),
    ];
    members.extend([
        ("proc", "p_ucred"),
        ("proc", "p_vmspace"),
        ("proc", "p_args"),
    ]);
    for (structure, member) in members {
        let found = reader.member(structure, member);
        reader.known(found);
    }
    let frequency = reader.kernel.variable("cpu_tick_frequency", 8);
    let frequency = frequency.ok().filter(|frequency| *frequency > 0);
    let mut left = ALL_ARGUMENTS;
    let rows = list.iter().map(|process| {
        let follow = |pointer: &str, structure: &str, member: &str| {
            let at = reader.field(process.at, "proc", pointer).ok()?;
            (at != 0).then_some(())?;
            reader.field(VirtAddr(at), structure, member).ok()
        };
        let thread = process.threads.first();
        let priority =
            thread.and_then(|thread| reader.field(thread.at, "thread", "td_priority").ok());
        let state = match thread {
            _ if process.zombie => "zombie",
            Some(thread) => thread.state.name(),
            None => "-",
        };
        let runtime = reader.field(process.at, "proc", "p_rux.rux_runtime").ok();
        let seconds = runtime.zip(frequency).map(|(ticks, hz)| ticks / hz);
        let command = arguments(reader, process, &mut left).unwrap_or_else(|| process.comm.clone());
        vec![
            follow("p_ucred", "ucred", "cr_uid").into(),
            // Process IDs are positive.
            (process.pid as u64).into(),
            process.ppid.map(|ppid| ppid as u64).into(),
            priority.into(),
            state.to_string().into(),
            thread.and_then(|thread| thread.wait.clone()).into(),
            (process.threads.len() as u64).into(),
            follow("p_vmspace", "vmspace", "vm_map.size").into(),
            seconds.into(),
            command.into(),
        ]
    });
    Ok(rows.collect())
}

/// The arguments of a process, separated by spaces. Subtracts their length from `left`, and returns
/// `None` if they are longer.
fn arguments(reader: &Reader<'_>, process: &Process, left: &mut u64) -> Option<String> {
    let args = VirtAddr(reader.field(process.at, "proc", "p_args").ok()?);
    if args == VirtAddr(0) {
        return None;
    }
    let len = reader.field(args, "pargs", "ar_length").ok()?;
    let len = len.min(ARGUMENTS);
    *left = left.checked_sub(len)?;
    let mut bytes = vec![0; len as usize];
    let at = reader.place(args, "pargs", "ar_args").ok()?;
    reader.kernel.bytes_at("ar_args", at, &mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_string())
}

/// Open files, one row for each descriptor.
pub(super) fn files(reader: &mut Reader<'_>, list: &[Process]) -> Rows {
    let entry = reader.size_of("filedescent")?;
    for (structure, member) in [
        ("proc", "p_fd"),
        ("filedesc", "fd_files"),
        ("fdescenttbl", "fdt_nfiles"),
        ("fdescenttbl", "fdt_ofiles"),
        ("filedescent", "fde_file"),
        ("file", "f_type"),
        ("file", "f_flag"),
    ] {
        reader.member(structure, member)?;
    }
    let mut rows = Vec::new();
    for process in list {
        let found = process_files(reader, process, entry, FILES - rows.len());
        rows.extend(reader.known(found).unwrap_or_default());
        if rows.len() >= FILES {
            reader.problem(&format!("more than {FILES} open files"));
            break;
        }
    }
    Ok(rows)
}

fn process_files(reader: &Reader<'_>, process: &Process, entry: u64, most: usize) -> Rows {
    let descriptors = VirtAddr(reader.field(process.at, "proc", "p_fd")?);
    if process.zombie || descriptors == VirtAddr(0) {
        return Ok(Vec::new());
    }
    let table = VirtAddr(reader.field(descriptors, "filedesc", "fd_files")?);
    let count = reader.field(table, "fdescenttbl", "fdt_nfiles")?;
    let first = reader.place(table, "fdescenttbl", "fdt_ofiles")?;
    let mut rows = Vec::new();
    for fd in 0..count.min(DESCRIPTORS) {
        let at = first.wrapping_add(fd * entry);
        let file = VirtAddr(reader.field(at, "filedescent", "fde_file")?);
        if file == VirtAddr(0) {
            continue;
        }
        if rows.len() >= most {
            break;
        }
        let number = reader.field(file, "file", "f_type")?;
        let kind = FILE_TYPES.get(number as usize).copied().unwrap_or("other");
        rows.push(vec![
            (process.pid as u64).into(),
            process.comm.clone().into(),
            fd.into(),
            kind.to_string().into(),
            Cell::Address(reader.field(file, "file", "f_flag")?),
            reader.field(file, "file", "f_offset").ok().into(),
            Cell::Address(file.0),
        ]);
    }
    Ok(rows)
}
