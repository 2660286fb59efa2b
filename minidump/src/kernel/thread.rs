//! The threads of a kernel, with the registers of those that do not run.

use std::collections::HashSet;

use crate::defs::pcb::{ALL, COMM_LEN, NOCPU, NOCPU_BYTE, PcbFields, STOPPCBS_POINTER_SINCE};
use crate::kernel::{Kernel, KernelError};

/// The most processes and threads that are listed: a list that goes round ends there.
const LIMIT: usize = 1 << 18;

/// Where a thread's registers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// In `dumppcb`: it is the thread that wrote the dump.
    Crashed,
    /// In `stoppcbs`: it was on this CPU, which was stopped.
    Stopped(u32),
    /// Nowhere: it was on this CPU, which went on.
    Running(u32),
    /// In its own pcb: it was not on a CPU.
    Sleeping,
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
    /// Where its registers are.
    pub context: Context,
    /// Address of the `struct pcb` that has them, if one has.
    pub pcb: Option<u64>,
}

impl Thread {
    /// The title that LLDB gives it: `(pid 28) pagedaemon/dom0 (on CPU 4)`.
    pub fn title(&self) -> String {
        let own = if self.name.is_empty() || self.name == self.comm {
            String::new()
        } else {
            format!("/{}", self.name)
        };
        let context = match self.context {
            Context::Crashed => " (crashed)".into(),
            Context::Stopped(cpu) | Context::Running(cpu) => format!(" (on CPU {cpu})"),
            Context::Sleeping => String::new(),
        };
        format!("(pid {}) {}{own}{context}", self.pid, self.comm)
    }
}

/// The threads of a kernel in the order of its lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Threads {
    /// The threads.
    pub list: Vec<Thread>,
    /// What could not be read, and which symbols were missed, in words.
    pub problems: Vec<String>,
}

/// Saved registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registers {
    /// Name and value.
    pub values: Vec<(&'static str, u64)>,
    /// Where the thread goes on.
    pub pc: u64,
    /// Its stack pointer, as it was saved.
    pub sp: u64,
    /// Its frame pointer.
    pub fp: u64,
}

/// The exported offsets. All are needed.
struct Offsets {
    pid: u64,
    comm: u64,
    list: u64,
    threads: u64,
    tid: u64,
    name: u64,
    oncpu: u64,
    pcb: u64,
    plist: u64,
    pcb_size: u64,
}

impl Offsets {
    fn read(kernel: Kernel<'_>) -> Result<Self, KernelError> {
        let get = |name| kernel.variable(name, 4);
        Ok(Self {
            pid: get("proc_off_p_pid")?,
            comm: get("proc_off_p_comm")?,
            list: get("proc_off_p_list")?,
            threads: get("proc_off_p_threads")?,
            tid: get("thread_off_td_tid")?,
            name: get("thread_off_td_name")?,
            oncpu: get("thread_off_td_oncpu")?,
            pcb: get("thread_off_td_pcb")?,
            plist: get("thread_off_td_plist")?,
            pcb_size: get("pcb_size")?,
        })
    }
}

/// What says of a thread on a CPU where its registers are.
struct Stops {
    dumptid: Option<i32>,
    dumppcb: Option<u64>,
    /// The first element of `stoppcbs`.
    pcbs: Option<u64>,
    /// Address of `stopped_cpus`.
    cpus: Option<u64>,
}

impl Stops {
    fn read(kernel: Kernel<'_>, problems: &mut Vec<String>) -> Self {
        let mut known = |name: &str| {
            let found = kernel.address(name).ok();
            if found.is_none() {
                problems.push(format!("no symbol {name}"));
            }
            found
        };
        let dumptid = known("dumptid").and_then(|at| kernel.uint_at("dumptid", at, 4).ok());
        let dumppcb = known("dumppcb");
        let cpus = known("stopped_cpus");
        let stoppcbs = known("stoppcbs");
        let size = kernel.elf().symbol("stoppcbs").map_or(0, |s| s.size);
        let pointer = match size {
            0 => kernel
                .osreldate()
                .is_some_and(|version| version >= STOPPCBS_POINTER_SINCE),
            size => size == kernel.elf().pointer_size() as u64,
        };
        let pcbs = match stoppcbs {
            Some(at) if pointer => kernel
                .pointer_at("stoppcbs", at)
                .ok()
                .filter(|first| *first != 0),
            other => other,
        };
        Self {
            dumptid: dumptid.map(|tid| tid as i32), // 4 bytes were read
            dumppcb,
            pcbs,
            cpus,
        }
    }

    /// Whether `cpu` was stopped; nobody knows without `stopped_cpus`, and then it is taken for so.
    fn is_stopped(&self, kernel: Kernel<'_>, cpu: u32) -> bool {
        let Some(at) = self.cpus else {
            return true;
        };
        let long = kernel.elf().pointer_size();
        let bits = long as u32 * 8;
        let word = at.wrapping_add(u64::from(cpu / bits) * long as u64);
        kernel
            .uint_at("stopped_cpus", word, long)
            .is_ok_and(|word| word >> (cpu % bits) & 1 == 1)
    }
}

impl Kernel<'_> {
    /// All threads: those of `allproc`, then those of zombies: from `zombproc`, or where there is no
    /// such list from `pidhashtbl`.
    ///
    /// An offset that is missing is an error; a list that cannot be followed further is a problem,
    /// and what was found before stays.
    pub fn threads(&self) -> Result<Threads, KernelError> {
        let offsets = Offsets::read(*self)?;
        let allproc = self.address("allproc")?;
        let mut found = Threads::default();
        let stops = Stops::read(*self, &mut found.problems);
        let note = |result: Result<(), KernelError>, found: &mut Threads| {
            if let Err(error) = result {
                found.problems.push(error.to_string());
            }
        };
        let mut list = List {
            kernel: *self,
            offsets: &offsets,
            stops: &stops,
            seen: HashSet::new(),
            zombies: false,
        };
        note(list.follow(allproc, offsets.list, &mut found), &mut found);
        list.zombies = true;
        match self.address("zombproc") {
            Ok(head) => note(list.follow(head, offsets.list, &mut found), &mut found),
            Err(_) => note(list.hash(&mut found), &mut found),
        }
        Ok(found)
    }
}

/// The lists of processes.
struct List<'a> {
    kernel: Kernel<'a>,
    offsets: &'a Offsets,
    stops: &'a Stops,
    /// Processes that are listed already.
    seen: HashSet<u64>,
    zombies: bool,
}

impl List<'_> {
    /// The processes of `pidhashtbl` that no list has had: zombies, in kernels without `zombproc`.
    /// Kernels without these symbols have none to show.
    fn hash(&mut self, found: &mut Threads) -> Result<(), KernelError> {
        let kernel = self.kernel;
        let (Ok(table), Ok(chain)) = (
            kernel.address("pidhashtbl"),
            kernel.variable("proc_off_p_hash", 4),
        ) else {
            return Ok(());
        };
        let word = kernel.elf().pointer_size();
        let mask = kernel.variable("pidhash", word)?;
        let table = kernel.pointer_at("pidhashtbl", table)?;
        for slot in 0..=mask.min(LIMIT as u64) {
            let head = table.wrapping_add(slot * word as u64);
            self.follow(head, chain, found)?;
        }
        Ok(())
    }

    /// The processes from `head` on, chained at `link`.
    fn follow(&mut self, head: u64, link: u64, found: &mut Threads) -> Result<(), KernelError> {
        let mut process = self.kernel.pointer_at("process list", head)?;
        let mut left = LIMIT;
        while process != 0 && left > 0 {
            if self.seen.insert(process) {
                self.process(process, found)?;
            } else if !self.zombies {
                found
                    .problems
                    .push("the list of processes goes round".into());
                return Ok(());
            }
            process = self
                .kernel
                .pointer_at("process list", process.wrapping_add(link))?;
            left -= 1;
        }
        if process != 0 {
            found.problems.push(format!("more than {LIMIT} processes"));
        }
        Ok(())
    }

    fn process(&self, process: u64, found: &mut Threads) -> Result<(), KernelError> {
        let (kernel, offsets) = (self.kernel, self.offsets);
        let field = |offset: u64| process.wrapping_add(offset);
        let pid = kernel.uint_at("p_pid", field(offsets.pid), 4)? as i32; // 4 bytes were read
        let comm = kernel.text("p_comm", field(offsets.comm))?;
        let mut thread = kernel.pointer_at("p_threads", field(offsets.threads))?;
        while thread != 0 {
            if found.list.len() >= LIMIT {
                found.problems.push(format!("more than {LIMIT} threads"));
                return Ok(());
            }
            let (tid, name, context, pcb) = kernel.thread(offsets, self.stops, thread)?;
            found.list.push(Thread {
                at: thread,
                process,
                pid,
                comm: comm.clone(),
                tid,
                name,
                zombie: self.zombies,
                context,
                pcb,
            });
            thread = kernel.pointer_at("td_plist", thread.wrapping_add(offsets.plist))?;
        }
        Ok(())
    }
}

impl Kernel<'_> {
    fn thread(
        &self,
        offsets: &Offsets,
        stops: &Stops,
        at: u64,
    ) -> Result<(i32, String, Context, Option<u64>), KernelError> {
        let field = |offset: u64| at.wrapping_add(offset);
        let tid = self.uint_at("td_tid", field(offsets.tid), 4)? as i32; // 4 bytes were read
        let name = self.text("td_name", field(offsets.name))?;
        if stops.dumptid == Some(tid) && stops.dumppcb.is_some() {
            return Ok((tid, name, Context::Crashed, stops.dumppcb));
        }
        let (context, pcb) = match self.cpu(offsets, at)? {
            None => {
                let pcb = self.pointer_at("td_pcb", field(offsets.pcb))?;
                (Context::Sleeping, (pcb != 0).then_some(pcb))
            }
            Some(cpu) => match stops.pcbs {
                Some(first) if stops.is_stopped(*self, cpu) => {
                    let skip = u64::from(cpu).wrapping_mul(offsets.pcb_size);
                    (Context::Stopped(cpu), Some(first.wrapping_add(skip)))
                }
                _ => (Context::Running(cpu), None),
            },
        };
        Ok((tid, name, context, pcb))
    }

    /// `td_oncpu`: an int, but in 10.x a byte, whose place no int would have.
    fn cpu(&self, offsets: &Offsets, at: u64) -> Result<Option<u32>, KernelError> {
        let here = at.wrapping_add(offsets.oncpu);
        if !offsets.oncpu.is_multiple_of(4) {
            let byte = self.uint_at("td_oncpu", here, 1)?;
            return Ok((byte != u64::from(NOCPU_BYTE)).then_some(byte as u32));
        }
        let value = self.uint_at("td_oncpu", here, 4)? as u32; // 4 bytes were read
        Ok((i64::from(value as i32) != NOCPU).then_some(value))
    }

    fn text(&self, what: &str, at: u64) -> Result<String, KernelError> {
        let mut bytes = [0; COMM_LEN];
        self.bytes_at(what, at, &mut bytes)?;
        let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// The registers in the `struct pcb` at `at`.
    ///
    /// Where layouts differ by release, `osreldate` decides; without it, the first layout whose
    /// stack pointer is a kernel address.
    pub fn registers(&self, at: u64) -> Result<Registers, KernelError> {
        let machine = self.elf().machine();
        let version = self.osreldate();
        let mut layouts = ALL
            .iter()
            .filter(|l| l.machine == machine && version.is_none_or(|v| v >= l.since))
            .peekable();
        loop {
            let Some(layout) = layouts.next() else {
                return Err(KernelError::UnknownMachine(machine));
            };
            let found = self.registers_as(layout, at)?;
            let plausible = self.memory().translate(crate::VirtAddr(found.sp)).is_ok();
            if version.is_some() || plausible || layouts.peek().is_none() {
                return Ok(found);
            }
        }
    }

    fn registers_as(&self, layout: &PcbFields, at: u64) -> Result<Registers, KernelError> {
        let mut found = Registers {
            values: Vec::with_capacity(layout.registers.len()),
            pc: 0,
            sp: 0,
            fp: 0,
        };
        for &(name, offset) in layout.registers {
            let value = self.uint_at(name, at.wrapping_add(offset as u64), layout.word)?;
            found.values.push((name, value));
            // One register may be two of them nowhere, but order must not matter.
            if name == layout.pc {
                found.pc = value;
            }
            if name == layout.sp {
                found.sp = value;
            }
            if name == layout.fp {
                found.fp = value;
            }
        }
        Ok(found)
    }
}
