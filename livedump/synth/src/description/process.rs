//! Processes and threads, as a description has them.

use serde::{Deserialize, Serialize};

/// What a thread does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Doing {
    /// Waits on a wait channel.
    #[default]
    Sleeping,
    /// On a CPU.
    Running,
    /// Ready to run, on no CPU.
    Runnable,
    /// Suspended by a signal (T).
    Stopped,
    /// Has never run since it was made.
    Fresh,
}

/// `[[process.thread]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thread {
    /// `td_name`, at most 19 bytes; the process's if absent.
    pub name: Option<String>,
    /// What it does.
    pub doing: Doing,
    /// On which CPU, if running.
    pub cpu: Option<u32>,
    /// `td_wmesg`, if sleeping.
    pub wait: Option<String>,
    /// Whether a page fault in the kernel is in its call chain.
    pub fault: bool,
}

/// `[[process]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// `p_comm`, at most 19 bytes.
    pub name: String,
    /// `p_pid`.
    pub pid: u32,
    /// Whether it has a user part.
    #[serde(default)]
    pub user: bool,
    /// Whether it has exited and not been waited for.
    #[serde(default)]
    pub zombie: bool,
    /// Its threads; one that sleeps if absent.
    #[serde(default)]
    pub thread: Vec<Thread>,
}
