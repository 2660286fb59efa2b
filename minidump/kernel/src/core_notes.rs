//! The threads of a kernel as notes of an ELF core.

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::thread::{Context, Thread};
use livecore_minidump::elf::notes::{ThreadNote, short_name};

/// `SIGABRT`, the signal that debuggers show for the thread that wrote the dump.
const CRASHED: i32 = 6;

/// Returns every thread with its registers, and messages about what could not be read.
///
/// The thread that wrote the dump is first. The others are in the order of the kernel's lists.
///
/// # Errors
///
/// Returns the errors of [`Kernel::processes`].
pub fn thread_notes(kernel: &Kernel<'_>) -> Result<(Vec<ThreadNote>, Vec<String>), KernelError> {
    let found = kernel.processes()?;
    let mut threads: Vec<&Thread> = found.threads().collect();
    threads.sort_by_key(|thread| thread.context != Context::Crashed);
    let mut problems = found.problems.clone();
    let notes = threads.into_iter().map(|thread| {
        let registers = match kernel.registers(thread) {
            Ok(registers) => registers.known().collect(),
            Err(error) => {
                if problems.len() < 100 {
                    problems.push(format!("registers of thread {}: {error}", thread.tid));
                }
                Vec::new()
            }
        };
        ThreadNote {
            tid: thread.tid,
            pid: thread.pid,
            name: name(thread),
            registers,
            signal: match thread.context {
                Context::Crashed => CRASHED,
                _ => 0,
            },
        }
    });
    let notes = notes.collect();
    Ok((notes, problems))
}

/// Returns the longest form of the thread's title that fits a note.
fn name(thread: &Thread) -> String {
    let own = match thread.name.as_str() {
        "" => thread.comm.as_str(),
        name => name,
    };
    let titles = match thread.context {
        Context::Crashed => [
            thread.title(),
            format!("{} (crashed)", thread.label()),
            format!("{} (crashed)", thread.comm),
            format!("{own} (crashed)"),
            own.to_string(),
        ],
        _ => [
            thread.title(),
            format!("(pid {}) {}", thread.pid, thread.label()),
            format!("{} {}", thread.pid, thread.label()),
            thread.label(),
            own.to_string(),
        ],
    };
    short_name(&titles)
}
