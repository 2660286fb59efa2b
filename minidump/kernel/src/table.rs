//! Formats the list of processes like ps(1).

use std::fmt;

use livecore_defs::text::printable;

use crate::kernel::Kernel;
use crate::process::Process;
use crate::thread::Context;

/// Displays processes and their threads: a header line, then one line for each thread. Unknown
/// values are `-`.
#[derive(Clone, Copy)]
pub struct ProcessTable<'a> {
    /// The kernel of the processes.
    pub kernel: &'a Kernel<'a>,
    /// The processes.
    pub list: &'a [Process],
}

impl fmt::Display for ProcessTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |number: Option<String>| number.unwrap_or_else(|| "-".into());
        writeln!(
            f,
            "{:>6} {:>6} {:>7} {:>4} {:14} {:10} COMMAND",
            "PID", "PPID", "TID", "CPU", "STATE", "WAIT"
        )?;
        let mut states = self.kernel.states(self.list).into_iter();
        for process in self.list {
            let (pid, ppid) = (process.pid, or_dash(process.ppid.map(|p| p.to_string())));
            for thread in &process.threads {
                let crashed = match thread.context {
                    Context::Crashed => " (crashed)",
                    _ => "",
                };
                writeln!(
                    f,
                    "{pid:>6} {ppid:>6} {:>7} {:>4} {:14} {:10} {}{crashed}",
                    thread.tid,
                    or_dash(thread.cpu.map(|c| c.to_string())),
                    states.next().unwrap_or(thread.state).name(),
                    printable(thread.wait.as_deref().unwrap_or("-")),
                    printable(&thread.label()),
                )?;
            }
            if process.threads.is_empty() {
                let name = printable(&process.comm);
                writeln!(
                    f,
                    "{pid:>6} {ppid:>6} {:>7} {:>4} {:14} {:10} {name}",
                    "-", "-", "-", "-"
                )?;
            }
        }
        Ok(())
    }
}
