//! The processes of a kernel with their threads.

use crate::missing::Missing;
use crate::thread::Thread;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Address of its `struct proc`.
    pub at: u64,
    /// `p_pid`
    pub pid: i32,
    /// The parent's `p_pid`; process 0 counts as its own parent. Without type information nobody
    /// knows.
    pub ppid: Option<i32>,
    /// `p_comm`
    pub comm: String,
    /// Whether it is a zombie.
    pub zombie: bool,
    /// In the order of its list.
    pub threads: Vec<Thread>,
}

/// The processes of a kernel in the order of its lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processes {
    /// The processes: newest first, then zombies.
    pub list: Vec<Process>,
    /// Symbols that the kernel's file lacks.
    pub missing: Vec<Missing>,
    /// What could not be read, in words.
    pub problems: Vec<String>,
}

impl Processes {
    /// The threads of all of them, in the same order.
    pub fn threads(&self) -> impl Iterator<Item = &Thread> {
        self.list.iter().flat_map(|process| &process.threads)
    }
}
