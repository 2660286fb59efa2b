//! Processes and threads in a description.

use serde::{Deserialize, Serialize};

/// The state of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Doing {
    /// Waits on a wait channel.
    #[default]
    Sleeping,
    /// Running on a CPU.
    Running,
    /// Ready to run, not on a CPU.
    Runnable,
    /// Suspended by a signal (T).
    Stopped,
    /// Has never run.
    Fresh,
}

/// `[[process.thread]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table [[process.thread]]")]
pub struct Thread {
    /// `td_name`, at most 19 bytes [the name of the process].
    pub name: Option<String>,
    /// Its state.
    pub doing: Doing,
    /// The CPU of a running thread.
    pub cpu: Option<u32>,
    /// `td_wmesg` of a sleeping thread.
    pub wait: Option<String>,
    /// Whether its call chain contains a page fault in the kernel.
    pub fault: bool,
    /// The name of the lock that a sleeping thread waits for.
    pub lock: Option<String>,
    /// The names of the locks that it owns.
    pub holds: Vec<String>,
}

/// `[[process]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table [[process]]")]
pub struct Process {
    /// `p_comm`, at most 19 bytes.
    pub name: String,
    /// `p_pid`; of the first one if there are several.
    pub pid: u32,
    /// Number of such processes, with consecutive pids. [`Description::parse`] replaces an entry of
    /// several with one entry for each process.
    ///
    /// [`Description::parse`]: super::Description::parse
    #[serde(default = "one")]
    pub count: u32,
    /// Whether it has a user address space.
    #[serde(default)]
    pub user: bool,
    /// Whether it has exited and its parent has not yet waited for it.
    #[serde(default)]
    pub zombie: bool,
    /// Its threads [one that sleeps].
    #[serde(default)]
    pub thread: Vec<Thread>,
}

fn one() -> u32 {
    1
}

impl Process {
    /// The processes of this entry, whose pids were checked.
    pub(super) fn each(&self) -> impl Iterator<Item = Self> {
        (0..self.count).map(|n| Self {
            pid: self.pid + n,
            count: 1,
            ..self.clone()
        })
    }
}
