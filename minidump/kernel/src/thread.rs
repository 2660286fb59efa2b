//! Threads.

use std::ops::Range;

use livecore_minidump::VirtAddr;

use crate::state::State;

/// The context of a thread, which determines the location of its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// The thread wrote the dump of a machine that had stopped, and its registers are in `dumppcb`.
    /// If the kernel did not start a dump: the thread entered the kernel debugger, and its registers
    /// are in `kdb_pcb`.
    Crashed,
    /// The thread was on this CPU, which was stopped. Its registers are in `stoppcbs`, or in
    /// `kdb_pcb` if it entered the debugger and another thread wrote the dump.
    Stopped(u32),
    /// The thread was running on this CPU, which was not stopped. Its registers are unknown, except
    /// for the thread that wrote a live dump: they are in `dumppcb`.
    OnCpu(u32),
    /// The thread was not on a CPU. Its registers are in its own pcb.
    SwitchedOut,
}

impl Context {
    /// The name of the context.
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
    pub at: VirtAddr,
    /// Address of its `struct proc`.
    pub process: VirtAddr,
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
    /// Its state, from its structure.
    pub state: State,
    /// `td_oncpu`, unless NOCPU.
    pub cpu: Option<u32>,
    /// Its wait message (`td_wmesg`), or the name of the lock that it waits for (`td_lockname`).
    /// `None` without type information.
    pub wait: Option<String>,
    /// Its kernel stack (`td_kstack`). `None` without type information.
    pub kstack: Option<Range<VirtAddr>>,
    /// Its context.
    pub context: Context,
    /// Address of the `struct pcb` with its registers, if they are known.
    pub pcb: Option<VirtAddr>,
    /// `td_pcb`: its own pcb, which is out of date while it is on a CPU.
    pub own_pcb: Option<VirtAddr>,
}

impl Thread {
    /// The title of the thread in LLDB: `(pid 28) pagedaemon/dom0 (on CPU 4)`.
    pub fn title(&self) -> String {
        let context = match self.context {
            Context::Crashed => " (crashed)".into(),
            Context::Stopped(cpu) | Context::OnCpu(cpu) => format!(" (on CPU {cpu})"),
            Context::SwitchedOut => String::new(),
        };
        format!("(pid {}) {}{context}", self.pid, self.label())
    }

    /// The name of the process, and the name of the thread if it is different: `pagedaemon/dom0`.
    pub fn label(&self) -> String {
        if self.name.is_empty() || self.name == self.comm {
            self.comm.clone()
        } else {
            format!("{}/{}", self.comm, self.name)
        }
    }
}
