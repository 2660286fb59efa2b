//! A thread, and where its registers are.

use std::ops::Range;

use crate::process::{Missing, Walk};
use crate::state::State;
use crate::{Kernel, KernelError};
use livecore_defs::pcb::COMM_LEN;

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

/// The threads of a kernel in the order of its lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Threads {
    /// The threads.
    pub list: Vec<Thread>,
    /// Symbols that the kernel's file lacks.
    pub missing: Vec<Missing>,
    /// What could not be read, in words.
    pub problems: Vec<String>,
}

impl Kernel<'_> {
    /// All threads: those of `allproc`, then those of zombies. See [`Kernel::processes`].
    pub fn threads(&self) -> Result<Threads, KernelError> {
        let found = self.processes()?;
        Ok(Threads {
            list: found.list.into_iter().flat_map(|p| p.threads).collect(),
            missing: found.missing,
            problems: found.problems,
        })
    }
}

impl Walk<'_> {
    /// The thread at `at` of a process, as its structure tells it.
    pub(super) fn thread(
        &mut self,
        at: u64,
        (process, pid, comm, zombie): (u64, i32, &str, bool),
    ) -> Result<Thread, KernelError> {
        let (kernel, offsets) = (self.kernel, self.offsets);
        let field = |offset: u64| at.wrapping_add(offset);
        let tid = kernel.uint_at("td_tid", field(offsets.tid), 4)? as i32; // 4 bytes were read
        let name = kernel.text("td_name", field(offsets.name), COMM_LEN)?;
        let own_pcb = kernel
            .pointer_at("td_pcb", field(offsets.pcb))
            .map(|pcb| (pcb != 0).then_some(pcb));
        let cpu = self.stops.cpu(kernel, &offsets, at);
        let own_pcb = self.or_problem(own_pcb).flatten();
        let cpu = self.or_problem(cpu);
        let mut crashed = self.stops.dumptid == Some(tid) && self.stops.dumppcb.is_some();
        let debugger = cpu.flatten().and_then(|cpu| {
            let stops = &self.stops;
            stops.debugger_pcb(kernel, &offsets, at, cpu)
        });
        crashed |= debugger.is_some() && self.stops.dumptid.is_none();
        let (context, pcb) = match cpu {
            _ if crashed => {
                let dumped = self.stops.dumppcb;
                let is_dumper = self.stops.dumptid == Some(tid);
                let came = debugger.filter(|at| !is_dumper || !kernel.is_of_program(*at));
                (Context::Crashed, came.or(dumped))
            }
            // Another thread has dumped, before or from outside.
            Some(Some(cpu)) if debugger.is_some() => (Context::Stopped(cpu), debugger),
            Some(Some(cpu)) => match self.stops.pcb(kernel, offsets.pcb_size, cpu) {
                None => (Context::OnCpu(cpu), None),
                pcb => (Context::Stopped(cpu), pcb),
            },
            Some(None) => (Context::SwitchedOut, own_pcb),
            // Whether it ran is not known: what its pcb has may be old.
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

    fn kstack(&self, at: u64) -> Option<Range<u64>> {
        let start = self.typed(at, "td_kstack", self.typed.kstack?)?;
        let pages = self.typed(at, "td_kstack_pages", self.typed.kstack_pages?)?;
        let len = pages.checked_mul(self.kernel.memory().page_size())?;
        let end = start.checked_add(len)?;
        // `thread0` has the end of the stack that it began with, and no pages, where the kernel's
        // `init_proc0` leaves it so (`sys/arm64/arm64/machdep.c`, `sys/riscv/riscv/machdep.c`, 12.1).
        (start != 0 && (1..=1024).contains(&pages)).then_some(start..end)
    }
}
