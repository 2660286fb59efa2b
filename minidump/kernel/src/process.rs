//! Processes and their threads.

use livecore_minidump::VirtAddr;

use crate::missing::Missing;
use crate::thread::Thread;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Address of its `struct proc`.
    pub at: VirtAddr,
    /// `p_pid`
    pub pid: i32,
    /// `p_pid` of the parent. Process 0 is its own parent. `None` without type information.
    pub ppid: Option<i32>,
    /// `p_comm`
    pub comm: String,
    /// Whether it is a zombie.
    pub zombie: bool,
    /// Its threads, in list order.
    pub threads: Vec<Thread>,
}

/// The processes of a kernel, in list order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processes {
    /// The processes, newest first, followed by the zombies.
    pub list: Vec<Process>,
    /// Missing kernel symbols.
    pub missing: Vec<Missing>,
    /// Messages about what could not be read.
    pub problems: Vec<String>,
}

impl Processes {
    /// The threads of all processes, in the same order.
    pub fn threads(&self) -> impl Iterator<Item = &Thread> {
        self.list.iter().flat_map(|process| &process.threads)
    }
}
