//! A thread, and where its registers are.

use std::ops::Range;

use crate::state::State;

/// Where a thread's registers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// In `dumppcb`: it is the thread that wrote the dump. Or, where no dump was begun, in
    /// `kdb_pcb`: it is the thread that entered the kernel's debugger, which would have written it.
    Crashed,
    /// In `stoppcbs`: it was on this CPU, which was stopped. Or in `kdb_pcb`, where another thread
    /// has dumped.
    Stopped(u32),
    /// Nowhere: it was on this CPU, which went on.
    OnCpu(u32),
    /// In its own pcb: it was not on a CPU.
    SwitchedOut,
}

impl Context {
    /// One word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crashed => "crashed",
            Self::Stopped(_) => "stopped",
            Self::OnCpu(_) => "on-cpu",
            Self::SwitchedOut => "switched-out",
        }
    }
}

/// A thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Address of its `struct thread`.
    pub at: u64,
    /// Address of its `struct proc`.
    pub process: u64,
    /// `p_pid`
    pub pid: i32,
    /// `p_comm`
    pub comm: String,
    /// `td_tid`
    pub tid: i32,
    /// `td_name`, possibly empty.
    pub name: String,
    /// Whether its process is a zombie.
    pub zombie: bool,
    /// What it does, as far as its structure says.
    pub state: State,
    /// `td_oncpu`, unless NOCPU.
    pub cpu: Option<u32>,
    /// What it waits for (`td_wmesg`), or the lock that it is blocked on (`td_lockname`). Without
    /// type information nobody knows.
    pub wait: Option<String>,
    /// Its kernel stack (`td_kstack`), if type information tells where it is.
    pub kstack: Option<Range<u64>>,
    /// Where its registers are.
    pub context: Context,
    /// Address of the `struct pcb` that has them, if one has.
    pub pcb: Option<u64>,
    /// `td_pcb`: its own, whose contents are old while it is on a CPU.
    pub own_pcb: Option<u64>,
}

impl Thread {
    /// The title that LLDB gives it: `(pid 28) pagedaemon/dom0 (on CPU 4)`.
    pub fn title(&self) -> String {
        let context = match self.context {
            Context::Crashed => " (crashed)".into(),
            Context::Stopped(cpu) | Context::OnCpu(cpu) => format!(" (on CPU {cpu})"),
            Context::SwitchedOut => String::new(),
        };
        format!("(pid {}) {}{context}", self.pid, self.label())
    }

    /// Its process's name and its own, if that is another: `pagedaemon/dom0`.
    pub fn label(&self) -> String {
        if self.name.is_empty() || self.name == self.comm {
            self.comm.clone()
        } else {
            format!("{}/{}", self.comm, self.name)
        }
    }
}
