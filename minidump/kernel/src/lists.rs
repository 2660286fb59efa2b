//! Reads the kernel's lists of processes and threads.

use livecore_minidump::VirtAddr;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use livecore_defs::pcb::COMM_LEN;

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::missing::Missing;
use crate::offsets::{Offsets, Typed};
use crate::process::{Process, Processes};
use crate::state::State;
use crate::stops::Stops;
use crate::structure::Member;
use crate::thread::{Context, Thread};

/// The maximum number of processes, and of threads.
const LIMIT: usize = 1 << 18;
/// The maximum number of problems that are listed.
const PROBLEMS: usize = 64;

/// The bits of `td_inhibitors` and their states. The first one set decides. FreeBSD
/// `sys/sys/proc.h`.
const INHIBITORS: [(u64, State); 5] = [
    (0x04, State::Swapped),
    (0x01, State::Suspended),
    (0x08, State::Locked),
    (0x10, State::InterruptWait),
    (0x02, State::Sleeping),
];

impl Kernel<'_> {
    /// Returns all processes: those in `allproc`, then the zombies.
    ///
    /// Zombies are in `zombproc`. Kernels since 13 do not have it; there, the zombies are the
    /// processes that are only in `pidhashtbl`. If a list entry cannot be read or a list is
    /// circular, the result has the processes before it and a problem.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel does not export an offset or `allproc`, or if an offset is
    /// invalid.
    pub fn processes(&self) -> Result<Processes, KernelError> {
        let offsets = Offsets::read(self)?;
        let allproc = self.address("allproc")?;
        let (stops, missing, problems) = Stops::read(self, &offsets);
        let mut walk = Walk {
            kernel: self,
            offsets,
            typed: Typed::read(self),
            stops,
            seen: HashSet::new(),
            chain: None,
            chained: HashMap::new(),
            list: Vec::new(),
            threads: 0,
            steps: 0,
            missing,
            problems,
            more_problems: 0,
        };
        let zombies = self.address("zombproc").ok();
        if zombies.is_none() {
            walk.chain = self.variable("proc_off_p_hash", 4).ok();
        }
        walk.follow("allproc", allproc, offsets.list, false);
        match zombies {
            Some(head) => {
                walk.follow("zombproc", head, offsets.list, true);
            }
            None => walk.hash(),
        }
        if walk.more_problems > 0 {
            walk.problems
                .push(format!("{} more problems", walk.more_problems));
        }
        Ok(Processes {
            list: walk.list,
            missing: walk.missing,
            problems: walk.problems,
        })
    }

    /// Returns the threads of all processes, in the order of [`Kernel::processes`].
    ///
    /// [`Processes::problems`] lists what could not be read.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Kernel::processes`].
    pub fn threads(&self) -> Result<Vec<Thread>, KernelError> {
        let found = self.processes()?;
        Ok(found.list.into_iter().flat_map(|p| p.threads).collect())
    }
}

/// A walk of the process lists.
struct Walk<'a> {
    kernel: &'a Kernel<'a>,
    offsets: Offsets,
    typed: Typed,
    stops: Stops,
    /// The addresses of listed processes and threads.
    seen: HashSet<VirtAddr>,
    /// The offset of `p_hash`, unless there is a list of zombies.
    chain: Option<u64>,
    /// The next process in the chain of `pidhashtbl`, for each listed process. It is read with the
    /// process: later the process may no longer be in the cache of decoded frames.
    chained: HashMap<VirtAddr, VirtAddr>,
    list: Vec<Process>,
    /// The number of listed threads.
    threads: usize,
    /// The number of links followed, in all lists.
    steps: usize,
    missing: Vec<Missing>,
    problems: Vec<String>,
    /// The number of problems that are not in `problems`.
    more_problems: usize,
}

impl Walk<'_> {
    /// Converts an error to a problem.
    fn or_problem<T>(&mut self, result: Result<T, KernelError>) -> Option<T> {
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
            self.more_problems += 1;
        }
    }

    /// Reads a member of the structure at `at`, using type information.
    fn typed(&self, at: VirtAddr, what: &str, member: Member) -> Option<u64> {
        let len = match member.size {
            len @ (1 | 2 | 4 | 8) => len as usize,
            _ => return None,
        };
        let at = at.wrapping_add(member.offset);
        self.kernel.uint_at(what, at, len).ok()
    }

    /// Adds the processes that are only in `pidhashtbl`: the zombies of kernels without `zombproc`.
    fn hash(&mut self) {
        let kernel = self.kernel;
        let table = || -> Result<(u64, VirtAddr, u64), KernelError> {
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
                    alternative: Some("pidhashtbl"),
                    consequence: "zombie processes not listed",
                });
            }
            Err(error) => return self.problem(error.to_string()),
        };
        if mask >= LIMIT as u64 {
            return self.problem(format!(
                "pidhash: found {mask:#x}, expected less than {LIMIT:#x}"
            ));
        }
        let word = kernel.elf().pointer_size() as u64;
        for slot in 0..=mask {
            let head = table.wrapping_add(slot * word);
            if !self.follow("pidhashtbl", head, chain, true) {
                return;
            }
        }
    }

    /// Adds the processes of the list at `head`, whose links are at offset `link`. Returns whether
    /// the list was read to its end.
    fn follow(&mut self, name: &str, head: VirtAddr, link: u64, zombies: bool) -> bool {
        let mut next = self.kernel.pointer_at(name, head);
        let mut met = HashSet::new();
        loop {
            let process = match next {
                Ok(VirtAddr(0)) => return true,
                Ok(process) => process,
                Err(error) => {
                    self.problem(error.to_string());
                    return false;
                }
            };
            if !met.insert(process) {
                self.problem(format!("{name}: list is circular at {process:#x}"));
                return false;
            }
            self.steps += 1;
            if self.steps > 2 * LIMIT || self.list.len() >= LIMIT {
                self.problem(format!("{name}: more than {LIMIT} processes"));
                return false;
            }
            let at = |offset: u64| self.kernel.pointer_at(name, process.wrapping_add(offset));
            let following = match self.chained.get(&process) {
                Some(chained) if self.chain == Some(link) => Ok(*chained),
                _ => at(link),
            };
            if let Some(Ok(chained)) = self.chain.filter(|chain| *chain != link).map(at) {
                self.chained.insert(process, chained);
            }
            if self.seen.insert(process) {
                let found = self.process(process, zombies);
                if let Some(found) = self.or_problem(found) {
                    self.list.push(found);
                }
            }
            next = following;
        }
    }

    fn process(&mut self, at: VirtAddr, zombie: bool) -> Result<Process, KernelError> {
        let (kernel, offsets) = (self.kernel, self.offsets);
        let field = |offset: u64| at.wrapping_add(offset);
        let pid = kernel.uint_at("p_pid", field(offsets.pid), 4)? as i32; // 4 bytes were read
        let comm = kernel.text("p_comm", field(offsets.comm), COMM_LEN)?;
        let ppid = self.parent(at, pid);
        // PRS_ZOMBIE: an exiting process can still be in allproc.
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

    /// Returns the parent's process ID. Process 0 is its own parent, as in ddb.
    fn parent(&self, at: VirtAddr, pid: i32) -> Option<i32> {
        let parent = self.typed(at, "p_pptr", self.typed.parent?)?;
        if parent == 0 {
            return (pid == 0).then_some(pid);
        }
        let at = VirtAddr(parent).wrapping_add(self.offsets.pid);
        // 4 bytes were read.
        Some(self.kernel.uint_at("p_pid", at, 4).ok()? as i32)
    }

    fn threads_of(&mut self, process: (VirtAddr, i32, &str, bool)) -> Vec<Thread> {
        let mut found = Vec::new();
        let head = process.0.wrapping_add(self.offsets.threads);
        let mut next = self.kernel.pointer_at("p_threads", head);
        loop {
            let thread = match next {
                Ok(VirtAddr(0)) => return found,
                Ok(thread) => thread,
                Err(error) => {
                    self.problem(error.to_string());
                    return found;
                }
            };
            if !self.seen.insert(thread) {
                self.problem(format!("threads of pid {}: list is circular", process.1));
                return found;
            }
            if self.threads >= LIMIT {
                self.problem(format!("more than {LIMIT} threads"));
                return found;
            }
            self.threads += 1;
            let result = self.thread(thread, process);
            found.extend(self.or_problem(result));
            let link = thread.wrapping_add(self.offsets.plist);
            next = self.kernel.pointer_at("td_plist", link);
        }
    }

    /// Reads the thread at `at` of a process.
    fn thread(
        &mut self,
        at: VirtAddr,
        (process, pid, comm, zombie): (VirtAddr, i32, &str, bool),
    ) -> Result<Thread, KernelError> {
        let (kernel, offsets) = (self.kernel, self.offsets);
        let field = |offset: u64| at.wrapping_add(offset);
        let tid = kernel.uint_at("td_tid", field(offsets.tid), 4)? as i32; // 4 bytes were read
        let name = kernel.text("td_name", field(offsets.name), COMM_LEN)?;
        let own_pcb = kernel
            .pointer_at("td_pcb", field(offsets.pcb))
            .map(|pcb| (pcb != VirtAddr(0)).then_some(pcb));
        let cpu = self.stops.cpu(kernel, &offsets, at);
        let own_pcb = self.or_problem(own_pcb).flatten();
        let cpu = self.or_problem(cpu);
        let dumped = self
            .stops
            .dumppcb
            .filter(|_| self.stops.dumptid == Some(tid));
        let mut crashed = dumped.is_some() && !self.stops.running;
        let debugger = cpu.flatten().and_then(|cpu| {
            let stops = &self.stops;
            stops.debugger_pcb(kernel, &offsets, at, cpu)
        });
        crashed |= debugger.is_some() && self.stops.dumptid.is_none();
        let (context, pcb) = match cpu {
            _ if crashed => {
                let entered = debugger.filter(|at| dumped.is_none() || !kernel.is_of_program(*at));
                (Context::Crashed, entered.or(dumped))
            }
            Some(Some(cpu)) if dumped.is_some() => (Context::OnCpu(cpu), dumped),
            // Another thread wrote the dump.
            Some(Some(cpu)) if debugger.is_some() => (Context::Stopped(cpu), debugger),
            Some(Some(cpu)) => match self.stops.pcb(kernel, offsets.pcb_size, cpu) {
                None => (Context::OnCpu(cpu), None),
                pcb => (Context::Stopped(cpu), pcb),
            },
            Some(None) => (Context::SwitchedOut, own_pcb),
            // The thread may have been running, so its pcb may be out of date.
            None => (Context::SwitchedOut, None),
        };
        let cpu = cpu.flatten();
        Ok(Thread {
            at,
            process,
            pid,
            comm: comm.to_string(),
            tid,
            name,
            zombie,
            state: self.state(at, cpu.is_some() || crashed, zombie),
            cpu,
            wait: self.wait(at),
            kstack: self.kstack(at),
            context,
            pcb,
            own_pcb,
        })
    }

    fn kstack(&self, at: VirtAddr) -> Option<Range<VirtAddr>> {
        let start = self.typed(at, "td_kstack", self.typed.kstack?)?;
        let pages = self.typed(at, "td_kstack_pages", self.typed.kstack_pages?)?;
        let len = pages.checked_mul(self.kernel.memory().page_size())?;
        let end = start.checked_add(len)?;
        // In some kernels `init_proc0` sets `td_kstack` of `thread0` to the end of its stack and
        // leaves `td_kstack_pages` at 0 (12.1 `sys/arm64/arm64/machdep.c`).
        (start != 0 && (1..=1024).contains(&pages)).then_some(VirtAddr(start)..VirtAddr(end))
    }

    /// Returns the state of the thread at `at` from its structure.
    fn state(&self, at: VirtAddr, on_cpu: bool, zombie: bool) -> State {
        if zombie {
            return State::Zombie;
        }
        if on_cpu {
            return State::Running;
        }
        let member = |name, member: Option<_>| self.typed(at, name, member?);
        let inhibitors = member("td_inhibitors", self.typed.inhibitors).unwrap_or(0);
        // 0 is TDS_INACTIVE, followed by TDS_INHIBITED, TDS_CAN_RUN and TDS_RUNQ.
        match member("td_state", self.typed.state) {
            Some(0) => State::New,
            Some(1) => INHIBITORS
                .iter()
                .find(|(bit, _)| inhibitors & bit != 0)
                .map_or(State::OffCpu, |(_, state)| *state),
            Some(2 | 3) => State::Runnable,
            _ => State::OffCpu,
        }
    }

    /// Returns the wait message of the thread at `at`.
    fn wait(&self, at: VirtAddr) -> Option<String> {
        let message = |name, member| {
            let text = self.typed(at, name, member)?;
            (text != 0)
                .then(|| self.kernel.message(VirtAddr(text)))
                .flatten()
        };
        let wait = self.typed.wait.and_then(|m| message("td_wmesg", m));
        wait.or_else(|| self.typed.lock.and_then(|m| message("td_lockname", m)))
    }
}
