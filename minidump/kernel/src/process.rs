//! The processes of a kernel with their threads.

use std::collections::HashSet;
use std::fmt;

use crate::offsets::{Offsets, Typed};
use crate::stops::Stops;
use crate::thread::Thread;
use crate::{Kernel, KernelError, Member};
use livecore_defs::pcb::COMM_LEN;

/// The most processes, and the most threads, that are listed.
pub const LIMIT: usize = 1 << 18;
/// The most problems that are told one by one.
const PROBLEMS: usize = 64;

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

/// A symbol that is used where it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub symbol: &'static str,
    /// What is not known without it.
    pub without: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no symbol {}: {}", self.symbol, self.without)
    }
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

impl Kernel<'_> {
    /// All processes: those of `allproc`, then zombies: those of `zombproc`, or where there is no
    /// such list (13 on) those that only `pidhashtbl` has.
    ///
    /// An exported offset that is missing is an error; a list that cannot be followed further is a
    /// problem, and what was found before stays. Lists end where they go round.
    pub fn processes(&self) -> Result<Processes, KernelError> {
        let offsets = Offsets::read(*self)?;
        let allproc = self.address("allproc")?;
        let (stops, missing, problems) = Stops::read(*self, &offsets);
        let mut walk = Walk {
            kernel: *self,
            offsets,
            typed: Typed::read(*self),
            stops,
            seen: HashSet::new(),
            list: Vec::new(),
            threads: 0,
            steps: 0,
            missing,
            problems,
            untold: 0,
        };
        walk.follow("allproc", allproc, offsets.list, false);
        if let Ok(head) = self.address("zombproc") {
            walk.follow("zombproc", head, offsets.list, true);
        } else {
            walk.hash();
        }
        if walk.untold > 0 {
            walk.problems.push(format!("and {} more", walk.untold));
        }
        Ok(Processes {
            list: walk.list,
            missing: walk.missing,
            problems: walk.problems,
        })
    }

    /// The NUL-terminated text of at most `len` bytes at `at`.
    pub(super) fn text(&self, what: &str, at: u64, len: usize) -> Result<String, KernelError> {
        let mut bytes = [0; COMM_LEN];
        let len = len.min(COMM_LEN);
        self.bytes_at(what, at, &mut bytes[..len])?;
        let text = bytes[..len].split(|b| *b == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// The C string at `at`, as far as it can be read, of at most 40 bytes: a wait message.
    pub(super) fn message(&self, at: u64) -> Option<String> {
        const LONGEST: u64 = 40;
        let mut text = Vec::new();
        for i in 0..LONGEST {
            let byte = self.uint_at("message", at.checked_add(i)?, 1).ok()? as u8;
            if byte == 0 {
                break;
            }
            text.push(byte);
        }
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}

/// A walk over the lists of processes.
pub(super) struct Walk<'a> {
    pub(super) kernel: Kernel<'a>,
    pub(super) offsets: Offsets,
    pub(super) typed: Typed,
    pub(super) stops: Stops,
    /// Processes and threads that are listed already.
    seen: HashSet<u64>,
    list: Vec<Process>,
    /// How many threads are listed.
    threads: usize,
    /// How many links were followed, of all lists.
    steps: usize,
    missing: Vec<Missing>,
    problems: Vec<String>,
    /// How many more problems there were.
    untold: usize,
}

impl Walk<'_> {
    /// A value, or one more problem.
    pub(super) fn or_problem<T>(&mut self, result: Result<T, KernelError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(error.to_string());
                None
            }
        }
    }

    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(what);
        } else {
            self.untold += 1;
        }
    }

    /// A member of the structure at `at`, by type information.
    pub(super) fn typed(&self, at: u64, what: &str, member: Member) -> Option<u64> {
        let len = match member.size {
            len @ (1 | 2 | 4 | 8) => len as usize,
            _ => return None,
        };
        let at = at.wrapping_add(member.offset);
        self.kernel.uint_at(what, at, len).ok()
    }

    /// The processes of `pidhashtbl` that no list has had: zombies, in kernels without `zombproc`.
    fn hash(&mut self) {
        let kernel = self.kernel;
        let table = || -> Result<(u64, u64, u64), KernelError> {
            let chain = kernel.variable("proc_off_p_hash", 4)?;
            let mask = kernel.variable("pidhash", kernel.elf().pointer_size())?;
            let table = kernel.address("pidhashtbl")?;
            Ok((chain, kernel.pointer_at("pidhashtbl", table)?, mask))
        };
        let (chain, table, mask) = match table() {
            Ok(found) => found,
            Err(KernelError::NoSymbol(_)) => {
                return self.missing.push(Missing {
                    symbol: "zombproc",
                    without: "nor pidhashtbl: zombies are not listed",
                });
            }
            Err(error) => return self.problem(error.to_string()),
        };
        if mask >= LIMIT as u64 {
            return self.problem(format!("pidhash: found {mask:#x}, expected fewer slots"));
        }
        let word = kernel.elf().pointer_size() as u64;
        for slot in 0..=mask {
            let head = table.wrapping_add(slot * word);
            if !self.follow("pidhashtbl", head, chain, true) {
                return;
            }
        }
    }

    /// The processes from `head` on, chained at `link`; whether the list could be read to its end.
    fn follow(&mut self, name: &str, head: u64, link: u64, zombies: bool) -> bool {
        let mut next = self.kernel.pointer_at(name, head);
        let mut met = HashSet::new();
        loop {
            let process = match next {
                Ok(0) => return true,
                Ok(process) => process,
                Err(error) => {
                    self.problem(error.to_string());
                    return false;
                }
            };
            if !met.insert(process) {
                self.problem(format!("{name} goes round at {process:#x}"));
                return false;
            }
            self.steps += 1;
            if self.steps > 2 * LIMIT || self.list.len() >= LIMIT {
                self.problem(format!("{name}: more than {LIMIT} processes"));
                return false;
            }
            if self.seen.insert(process) {
                let found = self.process(process, zombies);
                if let Some(found) = self.or_problem(found) {
                    self.list.push(found);
                }
            }
            next = self.kernel.pointer_at(name, process.wrapping_add(link));
        }
    }

    fn process(&mut self, at: u64, zombie: bool) -> Result<Process, KernelError> {
        let (kernel, offsets) = (self.kernel, self.offsets);
        let field = |offset: u64| at.wrapping_add(offset);
        let pid = kernel.uint_at("p_pid", field(offsets.pid), 4)? as i32; // 4 bytes were read
        let comm = kernel.text("p_comm", field(offsets.comm), COMM_LEN)?;
        let ppid = self.parent(at, pid);
        // PRS_ZOMBIE: it has just become one, and is on allproc yet.
        let zombie = zombie
            || self
                .typed
                .process_state
                .and_then(|member| self.typed(at, "p_state", member))
                == Some(2);
        let threads = self.threads_of((at, pid, &comm, zombie));
        Ok(Process {
            at,
            pid,
            ppid,
            comm,
            zombie,
            threads,
        })
    }

    /// Process 0 has no parent, and counts as its own, as in ddb.
    fn parent(&self, at: u64, pid: i32) -> Option<i32> {
        let parent = self.typed(at, "p_pptr", self.typed.parent?)?;
        if parent == 0 {
            return (pid == 0).then_some(pid);
        }
        let at = parent.wrapping_add(self.offsets.pid);
        // 4 bytes were read.
        Some(self.kernel.uint_at("p_pid", at, 4).ok()? as i32)
    }

    fn threads_of(&mut self, process: (u64, i32, &str, bool)) -> Vec<Thread> {
        let mut found = Vec::new();
        let head = process.0.wrapping_add(self.offsets.threads);
        let mut next = self.kernel.pointer_at("p_threads", head);
        loop {
            let thread = match next {
                Ok(0) => return found,
                Ok(thread) => thread,
                Err(error) => {
                    self.problem(error.to_string());
                    return found;
                }
            };
            if !self.seen.insert(thread) {
                self.problem(format!("the threads of pid {} go round", process.1));
                return found;
            }
            if self.threads >= LIMIT {
                self.problem(format!("more than {LIMIT} threads"));
                return found;
            }
            self.threads += 1;
            let told = self.thread(thread, process);
            found.extend(self.or_problem(told));
            let link = thread.wrapping_add(self.offsets.plist);
            next = self.kernel.pointer_at("td_plist", link);
        }
    }
}
