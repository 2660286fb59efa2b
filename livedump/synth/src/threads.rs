//! Processes and threads: `allproc`, `zombproc` or `pidhashtbl`, `dumppcb`, `stoppcbs`.

use std::collections::BTreeMap;

use livecore_minidump::{PhysAddr, VirtAddr};

use super::builder::Builder;
use super::chains;
use super::description::{Doing, Process, Stoppcbs, Thread as Described};
use super::error::Error;
use super::processor::Registers;
use super::rng::Rng;
use super::stack::{self, Purpose};
use super::truth::{Context, Cpu, Process as ProcessTruth, Thread};
use super::users;

/// Pages of a kernel stack.
const KSTACK_PAGES: u64 = 4;
/// Bytes of floating-point state at the end of a stack.
const FPU: u64 = 832;
/// First thread id (`NO_PID` + 1).
const FIRST_TID: u32 = 100_000;
/// Slots of `pidhashtbl`.
const HASH: u64 = 64;

/// `td_inhibitors`.
const TDI_SUSPENDED: u32 = 1;
const TDI_SLEEPING: u32 = 2;

/// A process in memory, not yet in a list.
struct Unlinked {
    truth: ProcessTruth,
    va: u64,
    threads: Vec<Thread>,
}

/// The names of wait channels, each stored once.
#[derive(Default)]
struct Strings(BTreeMap<String, u64>);

impl Strings {
    fn get(&mut self, b: &mut Builder<'_>, text: &str) -> Result<u64, Error> {
        if let Some(&va) = self.0.get(text) {
            return Ok(va);
        }
        let va = b.slab(64)?;
        b.poke(va, text.as_bytes())?;
        self.0.insert(text.into(), va);
        Ok(va)
    }
}

/// State shared by all threads.
struct Crowd {
    rng: Rng,
    strings: Strings,
    /// Virtual address of the first element of `stoppcbs`.
    stoppcbs: u64,
    /// The CPU that dumps.
    dumper: Option<u32>,
    next_tid: u32,
    cpus: Vec<Cpu>,
}

/// The finished processes, threads and CPUs.
pub(crate) struct Made {
    /// In the order of the lists.
    pub(crate) processes: Vec<ProcessTruth>,
    /// In the order of the lists.
    pub(crate) threads: Vec<Thread>,
    /// By number.
    pub(crate) cpus: Vec<Cpu>,
    /// The dumping thread's id.
    pub(crate) dumptid: Option<u32>,
}

/// Makes all processes.
pub(crate) fn build(b: &mut Builder<'_>) -> Result<Made, Error> {
    let description = b.description;
    let cpus = description.state.cpus;
    let pcb_size = u64::from(b.layout.pcb_size);
    let stoppcbs = match description.stoppcbs() {
        Stoppcbs::Array => b.kernel.address("stoppcbs")?,
        Stoppcbs::Pointer => {
            let pages = (u64::from(cpus) * pcb_size).div_ceil(b.space.page_size);
            let va = b.allocate("stoppcbs", pages)?;
            b.set_word("stoppcbs", va)?;
            va
        }
    };
    let dumper = description
        .state
        .panic
        .as_ref()
        .and_then(|_| dumper(&description.process));
    let mut crowd = Crowd {
        rng: Rng::new(description.seed, "threads"),
        strings: Strings::default(),
        stoppcbs,
        dumper,
        next_tid: FIRST_TID,
        cpus: Vec::new(),
    };
    let mut alive = Vec::new();
    let mut dead = Vec::new();
    for process in &description.process {
        let placed = place(b, &mut crowd, process)?;
        if process.zombie {
            dead.push(placed);
        } else {
            alive.push(placed);
        }
    }
    // Newest first.
    alive.reverse();
    dead.reverse();
    list(b, "allproc", &alive)?;
    if b.description.release().is_old() {
        list(b, "zombproc", &dead)?;
    }
    hash(b, alive.iter().chain(&dead))?;

    if dumper.is_some() {
        let mut stopped = vec![0u8; b.layout.maxcpu as usize / 8];
        for cpu in (0..cpus).filter(|cpu| Some(*cpu) != dumper) {
            stopped[cpu as usize / 8] |= 1 << (cpu % 8);
        }
        b.set("stopped_cpus", &stopped)?;
    }
    let (processes, threads): (Vec<ProcessTruth>, Vec<Vec<Thread>>) = alive
        .into_iter()
        .chain(dead)
        .map(|p| (p.truth, p.threads))
        .unzip();
    let threads = threads.concat();
    let dumptid = threads
        .iter()
        .find(|t| t.context == Context::Dump)
        .map(|t| t.tid);
    if let Some(tid) = dumptid {
        b.set_u32("dumptid", tid)?;
        b.set_u32("dumping", 1)?;
    }
    if let Some(thread) = threads.iter().find(|t| t.context == Context::Debugger) {
        b.set("kdb_active", &[1])?;
        b.set_word("kdb_thread", thread.va.0)?;
    }
    b.set_u32("mp_maxid", cpus - 1)?;
    b.set_u32("mp_ncpus", cpus)?;
    crowd.cpus.sort_by_key(|cpu| cpu.id);
    Ok(Made {
        processes,
        threads,
        cpus: crowd.cpus,
        dumptid,
    })
}

/// Returns the CPU that panicked: one whose thread faulted, else the lowest with a thread.
fn dumper(processes: &[Process]) -> Option<u32> {
    let running = || {
        processes
            .iter()
            .flat_map(|p| &p.thread)
            .filter(|t| t.doing == Doing::Running)
    };
    running()
        .find(|t| t.fault)
        .and_then(|t| t.cpu)
        .or_else(|| running().filter_map(|t| t.cpu).min())
}

/// Links the processes into a list.
fn list(b: &mut Builder<'_>, head: &str, processes: &[Unlinked]) -> Result<(), Error> {
    let at = u64::from(b.layout.proc_.list);
    let word = u64::from(b.layout.word);
    let mut link = b.kernel.address(head)?;
    for process in processes {
        b.poke_word(link, process.va)?;
        b.poke_word(process.va + at + word, link)?;
        link = process.va + at;
    }
    b.poke_word(link, 0)
}

/// Links the processes into `pidhashtbl`.
fn hash<'p>(
    b: &mut Builder<'_>,
    processes: impl Iterator<Item = &'p Unlinked>,
) -> Result<(), Error> {
    let Some(at) = b.layout.proc_.hash else {
        return Ok(());
    };
    let word = u64::from(b.layout.word);
    let table = b.slab(HASH * word)?;
    b.set_word("pidhashtbl", table)?;
    b.set_word("pidhash", HASH - 1)?;
    let mut heads = vec![0u64; HASH as usize];
    for process in processes {
        let pid = process.threads.first().map_or(0, |t| t.pid);
        let slot = u64::from(pid) % HASH;
        let entry = process.va + u64::from(at);
        let old = std::mem::replace(&mut heads[slot as usize], process.va);
        b.poke_word(entry, old)?;
        b.poke_word(entry + word, table + slot * word)?;
        if old != 0 {
            b.poke_word(old + u64::from(at) + word, entry)?;
        }
        b.poke_word(table + slot * word, process.va)?;
    }
    Ok(())
}

/// Makes one process with its threads.
fn place(b: &mut Builder<'_>, crowd: &mut Crowd, process: &Process) -> Result<Unlinked, Error> {
    let l = b.layout.proc_;
    let va = b.slab(u64::from(l.size))?;
    b.poke_u32(va + u64::from(l.pid), process.pid)?;
    b.poke(va + u64::from(l.comm), process.name.as_bytes())?;
    b.poke_u32(va + u64::from(l.state), if process.zombie { 2 } else { 1 })?;
    // i386 since 12.0 has no address space shared by a process and the kernel.
    let shared = b.layout.word == 8;
    let space = if process.user && !process.zombie && shared {
        let space = users::build(b, &mut crowd.rng)?;
        let v = b.layout.vmspace;
        let vmspace = b.slab(u64::from(v.size))?;
        b.poke_word(va + u64::from(l.vmspace), vmspace)?;
        b.pmap(vmspace + u64::from(v.pmap), space.root.0)?;
        users::map(b, vmspace, &space.valid)?;
        Some(space)
    } else {
        None
    };
    let root = space.as_ref().map_or(b.tables.root, |space| space.root.0);
    let sleeping = [Described::default()];
    let described = if process.thread.is_empty() {
        &sleeping
    } else {
        &process.thread[..]
    };
    let mut threads = Vec::new();
    for thread in described {
        threads.push(place_thread(b, crowd, process, thread, va, root)?);
    }
    let plist = u64::from(b.layout.thread.plist);
    let word = u64::from(b.layout.word);
    let mut link = va + u64::from(l.threads);
    for thread in &threads {
        b.poke_word(link, thread.va.0)?;
        b.poke_word(thread.va.0 + plist + word, link)?;
        link = thread.va.0 + plist;
    }
    b.poke_word(link, 0)?;
    b.poke_word(va + u64::from(l.threads) + word, link)?;
    Ok(Unlinked {
        truth: ProcessTruth {
            va: VirtAddr(va),
            pid: process.pid,
            comm: process.name.clone(),
            zombie: process.zombie,
            space,
        },
        va,
        threads,
    })
}

fn place_thread(
    b: &mut Builder<'_>,
    crowd: &mut Crowd,
    process: &Process,
    described: &Described,
    proc_va: u64,
    root: u64,
) -> Result<Thread, Error> {
    let l = b.layout.thread;
    let page = b.space.page_size;
    let va = b.slab(u64::from(l.size))?;
    let tid = crowd.next_tid;
    crowd.next_tid += 1;
    let kstack = b.allocate("kernel stacks", KSTACK_PAGES)?;
    let end = kstack + KSTACK_PAGES * page;
    let (pcb, top) = match l.md_pcb {
        Some(at) => (va + u64::from(at), (end - FPU) & !63),
        None => {
            let pcb = (end - FPU - u64::from(b.layout.pcb_size)) & !63;
            (pcb, pcb)
        }
    };

    let stopped = crowd.dumper.is_some();
    let context = match described.cpu {
        Some(cpu) if crowd.dumper == Some(cpu) && b.description.state.debugger => Context::Debugger,
        Some(cpu) if crowd.dumper == Some(cpu) => Context::Dump,
        Some(cpu) if stopped => Context::Stopped(cpu),
        Some(cpu) => Context::Running(cpu),
        None => Context::Saved,
    };
    // A running CPU has left the point at which its thread was last switched in.
    let dumping = matches!(context, Context::Dump | Context::Debugger);
    let doing = if process.zombie {
        Doing::Fresh
    } else {
        described.doing
    };
    let described = Described {
        doing,
        ..described.clone()
    };
    let names = b.processor.names(b.description);
    let debugger = context == Context::Debugger;
    let class = |lock: &String| {
        let found = b.description.lock.iter().find(|l| l.name == *lock);
        found.map(|l| l.class)
    };
    let class = described.lock.as_ref().and_then(class);
    let chain = match class {
        Some(class) => Some(chains::blocked(names, class, process.user)),
        None => chains::of(names, &described, process.user, dumping, stopped),
    };
    let chain = match chain {
        Some(chain) if debugger => Some(chains::in_debugger(&chain)),
        other => other,
    };
    let purpose = Purpose {
        user: process.user,
        stale: dumping,
        running: debugger,
    };
    let (registers, frames) = match &chain {
        Some(chain) => stack::build(b, &mut crowd.rng, top, chain, purpose, va, root)?,
        None => (Registers::default(), Vec::new()),
    };
    if let Some(cpu) = described.cpu {
        let (r, frames) = if chain.is_some() {
            (registers, frames.clone())
        } else {
            let chain = chains::on_cpu(names, process.user);
            let running = Purpose {
                running: true,
                ..purpose
            };
            stack::build(b, &mut crowd.rng, top, &chain, running, va, root)?
        };
        crowd.cpus.push(Cpu {
            id: cpu,
            tid,
            pc: VirtAddr(r.pc),
            sp: VirtAddr(r.sp),
            fp: VirtAddr(r.fp),
            root: PhysAddr(r.root),
            frames,
        });
    }
    let (bytes, named) = b.processor.pcb(b.layout.pcb_size as usize, &registers);
    match context {
        Context::Dump => {
            let at = b.kernel.address("dumppcb")?;
            b.poke(at, &bytes)?;
        }
        Context::Debugger => {
            let at = b.kernel.address("kdb_pcb")?;
            b.poke(at, &bytes)?;
        }
        Context::Stopped(cpu) => {
            b.poke(crowd.stoppcbs + u64::from(cpu * b.layout.pcb_size), &bytes)?;
        }
        Context::Saved => b.poke(pcb, &bytes)?,
        Context::Running(_) => {}
    }
    if context != Context::Saved {
        // The thread's own pcb is from its last switch.
        let chain = [&["sched_switch", "mi_switch"], names.kthread].concat();
        let low = kstack + page;
        let purpose = Purpose {
            user: false,
            stale: false,
            running: false,
        };
        let (old, _) = stack::build(b, &mut crowd.rng, low, &chain, purpose, va, root)?;
        let (bytes, _) = b.processor.pcb(b.layout.pcb_size as usize, &old);
        b.poke(pcb, &bytes)?;
    }

    b.poke_word(va + u64::from(l.proc_), proc_va)?;
    b.poke_u32(va + u64::from(l.tid), tid)?;
    let name = described
        .name
        .clone()
        .unwrap_or_else(|| process.name.clone());
    b.poke(va + u64::from(l.name), name.as_bytes())?;
    b.poke_word(va + u64::from(l.pcb), pcb)?;
    b.poke_word(va + u64::from(l.kstack), kstack)?;
    let pages = (KSTACK_PAGES as u32).to_le_bytes();
    let pages = &pages[..l.kstack_pages_bytes as usize];
    b.poke(va + u64::from(l.kstack_pages), pages)?;
    // NOCPU is all bits set, in one byte or four.
    let number = |cpu: u32| cpu.to_le_bytes();
    let bytes = l.cpu_bytes as usize;
    let last = number(described.cpu.unwrap_or(0));
    b.poke(va + u64::from(l.lastcpu), &last[..bytes])?;
    let on = number(described.cpu.unwrap_or(u32::MAX));
    b.poke(va + u64::from(l.oncpu), &on[..bytes])?;
    let wait = match doing {
        Doing::Sleeping => Some(described.wait.clone().unwrap_or_else(|| "-".into())),
        _ => None,
    };
    if let Some(wait) = &wait {
        let text = crowd.strings.get(b, wait)?;
        b.poke_word(va + u64::from(l.wmesg), text)?;
    }
    let (state, inhibitors) = match doing {
        _ if process.zombie => (0, 0),
        Doing::Sleeping => (1, TDI_SLEEPING),
        Doing::Stopped => (1, TDI_SUSPENDED),
        Doing::Runnable | Doing::Fresh => (3, 0),
        Doing::Running => (4, 0),
    };
    b.poke_u32(va + u64::from(l.state), state)?;
    b.poke_u32(va + u64::from(l.inhibitors), inhibitors)?;
    Ok(Thread {
        va: VirtAddr(va),
        pid: process.pid,
        comm: process.name.clone(),
        tid,
        name,
        doing,
        cpu: described.cpu,
        wait,
        lock: None,
        zombie: process.zombie,
        context,
        pcb: VirtAddr(pcb),
        registers: if chain.is_some() { named } else { Vec::new() },
        frames,
    })
}
