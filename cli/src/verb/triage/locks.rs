//! Threads that wait for locks, the owners of the locks, and deadlocks.

use std::collections::HashMap;
use std::io::{self, Write};

use livecore_defs::text::printable;
use livecore_kernel::{Kernel, KernelError, Lock, Locks, Owner, Process, Thread, Wait};
use livecore_minidump::VirtAddr;
use serde::Serialize;

use super::thread::ThreadFacts;
use crate::json::Hex;

/// The locks that the text lists.
const LOCKS: usize = 20;
/// The waiting threads that the text lists for one lock.
const WAITERS: usize = 5;
/// The deadlocks whose threads are reported with their backtraces.
const DEADLOCKS: usize = 16;
/// The threads of one deadlock that are reported.
const CYCLE: usize = 64;

/// Threads that wait, the locks that they wait for, and deadlocks.
#[derive(Debug, Serialize)]
pub(super) struct LockFacts {
    pub(super) deadlocks: Vec<DeadlockFacts>,
    pub(super) locks: Vec<OneLock>,
    pub(super) waits: Vec<WaitFacts>,
}

/// A deadlock: its threads in order.
#[derive(Debug, Serialize)]
pub(super) struct DeadlockFacts {
    /// The number of threads in the cycle.
    pub(super) length: usize,
    pub(super) cycle: Vec<Link>,
}

/// A thread of a deadlock, and the lock that it waits for.
#[derive(Debug, Serialize)]
pub(super) struct Link {
    pub(super) lock: Hex,
    pub(super) class: &'static str,
    pub(super) name: String,
    pub(super) thread: ThreadFacts,
}

/// A lock that threads wait for.
#[derive(Debug, Serialize)]
pub(super) struct OneLock {
    pub(super) address: Hex,
    pub(super) class: &'static str,
    pub(super) name: String,
    pub(super) state: &'static str,
    pub(super) owner_address: Option<Hex>,
    pub(super) owner: Option<Named>,
    pub(super) sharers: Option<u64>,
    pub(super) waiters: Vec<i32>,
}

/// A thread by its name.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Named {
    pub(super) pid: i32,
    pub(super) tid: i32,
    pub(super) name: String,
    pub(super) state: &'static str,
    pub(super) wait: Option<String>,
}

/// A thread that waits.
#[derive(Debug, Serialize)]
pub(super) struct WaitFacts {
    #[serde(flatten)]
    pub(super) thread: Named,
    pub(super) queue: &'static str,
    pub(super) channel: Hex,
    pub(super) lock: Option<Hex>,
}

impl LockFacts {
    /// Reads the locks of `list`. `backtrace` reports a thread of a deadlock. What could not be read
    /// is added to `missing`.
    pub(super) fn read(
        kernel: &Kernel<'_>,
        list: &[Process],
        missing: &mut Vec<String>,
        backtrace: impl Fn(&Thread) -> ThreadFacts,
    ) -> Result<Self, KernelError> {
        let found = kernel.locks(list)?;
        missing.extend(found.problems.iter().map(|why| format!("locks: {why}")));
        let threads: HashMap<VirtAddr, &Thread> = list
            .iter()
            .flat_map(|process| &process.threads)
            .map(|thread| (thread.at, thread))
            .collect();
        let named = |at: &VirtAddr| threads.get(at).map(|thread| named(thread));
        let link = |wait: &Wait| {
            let lock = found.locks.get(wait.lock?)?;
            Some(Link {
                lock: lock.at.into(),
                class: lock.class.name(),
                name: lock.name.clone(),
                thread: backtrace(threads.get(&wait.thread)?),
            })
        };
        let deadlocks = found.deadlocks.iter().take(DEADLOCKS);
        let deadlocks = deadlocks.map(|deadlock| DeadlockFacts {
            length: deadlock.cycle.len(),
            cycle: deadlock
                .cycle
                .iter()
                .take(CYCLE)
                .filter_map(|i| link(found.waits.get(*i)?))
                .collect(),
        });
        let waits = found.waits.iter().filter_map(|wait| {
            let lock = wait.lock.and_then(|i| found.locks.get(i));
            Some(WaitFacts {
                thread: named(&wait.thread)?,
                queue: wait.queue.name(),
                channel: wait.channel.into(),
                lock: lock.map(|lock| lock.at.into()),
            })
        });
        Ok(Self {
            deadlocks: deadlocks.collect(),
            locks: found
                .locks
                .iter()
                .map(|lock| one(lock, &found, named))
                .collect(),
            waits: waits.collect(),
        })
    }

    /// Prints deadlocks with backtraces, then the locks with most waiting threads.
    pub(super) fn print(&self, digits: usize, out: &mut dyn Write) -> io::Result<()> {
        for deadlock in &self.deadlocks {
            writeln!(out, "\nDeadlock of {}:", threads(deadlock.length))?;
            let next = deadlock.cycle.iter().cycle().skip(1);
            for (link, next) in deadlock.cycle.iter().zip(next) {
                writeln!(
                    out,
                    "  tid {} {} waits for {} \"{}\" ({:#x}) of tid {}",
                    link.thread.tid,
                    printable(&link.thread.title),
                    link.class,
                    printable(&link.name),
                    link.lock.0,
                    next.thread.tid
                )?;
            }
            for link in &deadlock.cycle {
                link.thread.print(digits, out)?;
            }
        }
        if self.locks.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nLocks that threads wait for: {}", self.locks.len())?;
        let mut locks: Vec<&OneLock> = self.locks.iter().collect();
        locks.sort_by_key(|lock| std::cmp::Reverse(lock.waiters.len()));
        for lock in locks.iter().take(LOCKS) {
            let owner = match (&lock.owner, lock.owner_address, lock.sharers) {
                (Some(owner), ..) => format!("owner {owner}"),
                (None, Some(at), _) => format!("owner {:#x}, not a thread", at.0),
                (None, None, Some(sharers)) => format!("shared by {}", threads(sharers as usize)),
                (None, None, None) => lock.state.to_string(),
            };
            let class = lock.class;
            let (name, at) = (printable(&lock.name), lock.address.0);
            writeln!(out, "  {class} \"{name}\" ({at:#x}): {owner}")?;
            let shown = lock.waiters.iter().take(WAITERS);
            let mut tids: Vec<String> = shown.map(|tid| format!("tid {tid}")).collect();
            let more = lock.waiters.len() - tids.len();
            if more > 0 {
                tids.push(format!("{more} more"));
            }
            writeln!(out, "    waiting: {}", tids.join(", "))?;
        }
        if locks.len() > LOCKS {
            let more = locks.len() - LOCKS;
            writeln!(out, "  {more} more locks (--json prints all)")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = printable(&self.name);
        write!(
            f,
            "tid {} (pid {}) {name}, {}",
            self.tid, self.pid, self.state
        )?;
        match &self.wait {
            Some(wait) => write!(f, " on {}", printable(wait)),
            None => Ok(()),
        }
    }
}

fn named(thread: &Thread) -> Named {
    Named {
        pid: thread.pid,
        tid: thread.tid,
        name: thread.label(),
        state: thread.state.name(),
        wait: thread.wait.clone(),
    }
}

fn one(lock: &Lock, found: &Locks, named: impl Fn(&VirtAddr) -> Option<Named>) -> OneLock {
    let (state, at, sharers) = match lock.owner {
        Owner::Free => ("free", None, None),
        Owner::Thread(at) => ("owned", Some(at), None),
        Owner::Shared(sharers) => ("shared", None, Some(sharers)),
        Owner::Kernel => ("kernel", None, None),
        Owner::Destroyed => ("destroyed", None, None),
        Owner::Unknown => ("unknown", None, None),
    };
    let waiters = lock.waiters.iter().filter_map(|i| found.waits.get(*i));
    OneLock {
        address: lock.at.into(),
        class: lock.class.name(),
        name: lock.name.clone(),
        state,
        owner_address: at.map(Hex::from),
        owner: at.as_ref().and_then(named),
        sharers,
        waiters: waiters.map(|wait| wait.tid).collect(),
    }
}

fn threads(count: usize) -> String {
    match count {
        1 => "1 thread".into(),
        n => format!("{n} threads"),
    }
}
