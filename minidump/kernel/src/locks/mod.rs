//! Which thread waits for which lock, who owns it, and the deadlocks.
//!
//! ```text
//! thread ─ td_blocked ─ turnstile ─ ts_lockobj ─┐
//!        └ td_wchan (sx, lockmgr) ──────────────┴ lock_object ─ owner word ─ thread
//! ```
//!
//! A thread waits for at most one lock, and a lock has at most one exclusive owner. The graph is
//! therefore a function from threads to threads, and its cycles are the deadlocks.
//!
//! A lock does not record the threads that share it, so a deadlock through a shared lock is not
//! found. A thread that spins for a lock is on a CPU and does not wait.

mod cycles;
mod layout;
mod word;

use std::collections::HashMap;

use livecore_defs::lock::{LO_CLASSMASK, LO_CLASSSHIFT, LO_INITIALIZED, LOCK_CLASSES};
use livecore_minidump::VirtAddr;

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::process::Process;

use layout::Layout;

/// The structures to read with [`Kernel::detailed_with`] for [`Kernel::locks`].
pub const LOCK_STRUCTURES: [&str; 6] = ["lock_object", "mtx", "rwlock", "sx", "lock", "turnstile"];

/// The maximum number of problems that are listed.
const PROBLEMS: usize = 64;
/// The maximum length of a lock's name.
const NAME: usize = 128;

/// The class of a lock, by `lc_name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockClass {
    /// `sleep mutex`: mutex(9) of type `MTX_DEF`.
    Mutex,
    /// `spin mutex`: mutex(9) of type `MTX_SPIN`.
    Spin,
    /// `rw`: rwlock(9).
    Rw,
    /// `sx`: sx(9).
    Sx,
    /// `lockmgr`: lock(9), for vnodes and buffers.
    Lockmgr,
    /// `rm` and `sleepable rm`: rmlock(9).
    Rm,
}

impl LockClass {
    /// Its name: that of its manual page, except for `spin mutex` (mutex(9)) and `lockmgr` (lock(9)).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mutex => "mutex",
            Self::Spin => "spin mutex",
            Self::Rw => "rwlock",
            Self::Sx => "sx",
            Self::Lockmgr => "lockmgr",
            Self::Rm => "rmlock",
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"sleep mutex" => Self::Mutex,
            b"spin mutex" => Self::Spin,
            b"rw" => Self::Rw,
            b"sx" => Self::Sx,
            b"lockmgr" => Self::Lockmgr,
            b"rm" | b"sleepable rm" => Self::Rm,
            _ => return None,
        })
    }
}

/// Who owns a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// No thread.
    Free,
    /// The thread whose `struct thread` has this address, exclusively.
    Thread(VirtAddr),
    /// This number of threads, which share it.
    Shared(u64),
    /// The kernel: a lockmgr lock that its thread disowned (`LK_KERNPROC`).
    Kernel,
    /// The lock was destroyed.
    Destroyed,
    /// The owner could not be read.
    Unknown,
}

/// The queue that a thread waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// A turnstile: mutexes, rwlocks and rmlocks.
    Turnstile,
    /// A sleep queue: sx and lockmgr locks, condition variables and wait channels.
    Sleepqueue,
}

impl Queue {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Turnstile => "turnstile",
            Self::Sleepqueue => "sleepqueue",
        }
    }
}

/// A thread that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Address of its `struct thread`.
    pub thread: VirtAddr,
    /// `p_pid`
    pub pid: i32,
    /// `td_tid`
    pub tid: i32,
    /// The queue.
    pub queue: Queue,
    /// The wait channel (`td_wchan`), or the turnstile's `ts_lockobj`.
    pub channel: VirtAddr,
    /// The lock: an index in [`Locks::locks`]. `None` if the channel is not a lock.
    pub lock: Option<usize>,
}

/// A lock that a thread waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Address of its `struct lock_object`.
    pub at: VirtAddr,
    /// Its class.
    pub class: LockClass,
    /// `lo_name`
    pub name: String,
    /// Its owner.
    pub owner: Owner,
    /// The threads that wait for it: indices in [`Locks::waits`], ascending.
    pub waiters: Vec<usize>,
}

/// A deadlock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlock {
    /// Indices in [`Locks::waits`]. Each thread waits for a lock of the next one, and the last for a
    /// lock of the first. One thread alone waits for its own lock.
    pub cycle: Vec<usize>,
}

/// The threads that wait, and the locks that they wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locks {
    /// The threads that wait, in the order of the processes.
    pub waits: Vec<Wait>,
    /// The locks that threads wait for, by first waiter.
    pub locks: Vec<Lock>,
    /// The deadlocks, by first thread.
    pub deadlocks: Vec<Deadlock>,
    /// What could not be read.
    pub problems: Vec<String>,
}

impl Kernel<'_> {
    /// Returns the threads of `list` that wait, the locks that they wait for with their owners, and
    /// the deadlocks.
    ///
    /// The offsets come from type information ([`LOCK_STRUCTURES`] and `thread`), else from
    /// [`KNOWN_THREADS`](livecore_defs::lock::KNOWN_THREADS). Time and memory are linear in the number
    /// of threads.
    ///
    /// # Errors
    ///
    /// Returns [`KernelError::NoMember`] if an offset in `struct thread` or `struct turnstile` is unknown,
    /// [`KernelError::NoSymbol`] if the kernel has no `lock_classes`, and
    /// [`KernelError::Unreadable`] if that cannot be read.
    ///
    /// # Examples
    ///
    /// ```
    /// # use livecore_synth::{Description, build};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use livecore_kernel::LOCK_STRUCTURES;
    ///
    /// # let machine = build(&Description::parse(livecore_kernel_example())?)?;
    /// # let elf = livecore_minidump::KernelElf::from_bytes(machine.kernel().to_vec())?;
    /// # let found = livecore_kernel::locate::Machine::find(machine.memory(), &elf)?;
    /// # let kernel = found.kernel(&elf);
    /// let kernel = kernel.detailed_with(&LOCK_STRUCTURES);
    /// let processes = kernel.processes()?;
    /// let locks = kernel.locks(&processes.list)?;
    /// for deadlock in &locks.deadlocks {
    ///     for wait in deadlock.cycle.iter().map(|i| &locks.waits[*i]) {
    ///         let lock = wait.lock.map(|i| &locks.locks[i]);
    ///         println!("{} waits for {:?}", wait.tid, lock.map(|lock| &lock.name));
    ///     }
    /// }
    /// # assert_eq!(locks.deadlocks.len(), 1);
    /// # Ok(())
    /// # }
    /// # fn livecore_kernel_example() -> &'static str {
    /// #     "[memory]\nsize = '16 MiB'\n[kernel]\nkind = 'ctf'\n\
    /// #      [[lock]]\nname = 'a'\nclass = 'mutex'\n[[lock]]\nname = 'b'\nclass = 'sx'\n\
    /// #      [[process]]\nname = 'p'\npid = 1\n\
    /// #      thread = [{ holds = ['a'], lock = 'b' }, { holds = ['b'], lock = 'a' }]\n"
    /// # }
    /// ```
    pub fn locks(&self, list: &[Process]) -> Result<Locks, KernelError> {
        let layout = Layout::read(self)?;
        let classes = self.lock_classes()?;
        let mut graph = Graph {
            kernel: self,
            layout,
            classes,
            threads: HashMap::new(),
            known: HashMap::new(),
            found: Locks::default(),
        };
        for thread in list.iter().flat_map(|p| &p.threads) {
            graph.threads.insert(thread.at, None);
        }
        for thread in list.iter().flat_map(|p| &p.threads) {
            match graph.wait(thread.at) {
                Ok(Some((queue, channel, lock))) => {
                    let number = graph.found.waits.len();
                    if let Some(lock) = lock {
                        graph.found.locks[lock].waiters.push(number);
                    }
                    graph.threads.insert(thread.at, Some(number));
                    graph.found.waits.push(Wait {
                        thread: thread.at,
                        pid: thread.pid,
                        tid: thread.tid,
                        queue,
                        channel,
                        lock,
                    });
                }
                Ok(None) => {}
                Err(error) => graph.problem(&error),
            }
        }
        let next = |wait: &Wait| match graph.found.locks.get(wait.lock?)?.owner {
            Owner::Thread(at) => graph.threads.get(&at).copied().flatten(),
            _ => None,
        };
        let next: Vec<Option<usize>> = graph.found.waits.iter().map(next).collect();
        let cycles = cycles::find(&next).into_iter();
        graph.found.deadlocks = cycles.map(|cycle| Deadlock { cycle }).collect();
        Ok(graph.found)
    }

    /// Returns the classes in `lock_classes`.
    fn lock_classes(&self) -> Result<Vec<Option<LockClass>>, KernelError> {
        let at = self.address("lock_classes")?;
        let word = self.elf().pointer_size() as u64;
        let mut classes = Vec::new();
        for i in 0..LOCK_CLASSES {
            let class = self.pointer_at("lock_classes", at.wrapping_add(i * word))?;
            // lc_name is the first member.
            let name = match class {
                VirtAddr(0) => VirtAddr(0),
                class => self.pointer_at("lc_name", class)?,
            };
            let name = match name {
                VirtAddr(0) => Vec::new(),
                name => self.c_string_at(name, NAME),
            };
            classes.push(LockClass::of(&name));
        }
        Ok(classes)
    }
}

/// The graph while it is built.
struct Graph<'a> {
    kernel: &'a Kernel<'a>,
    layout: Layout,
    classes: Vec<Option<LockClass>>,
    /// All threads, with their index in `found.waits` if they wait.
    threads: HashMap<VirtAddr, Option<usize>>,
    /// The index in `found.locks` of channels that were read before.
    known: HashMap<VirtAddr, Option<usize>>,
    found: Locks,
}

impl Graph<'_> {
    fn problem(&mut self, what: &dyn std::fmt::Display) {
        if self.found.problems.len() < PROBLEMS {
            self.found.problems.push(what.to_string());
        }
    }

    /// Returns the queue, channel and lock that the thread at `at` waits for.
    fn wait(
        &mut self,
        at: VirtAddr,
    ) -> Result<Option<(Queue, VirtAddr, Option<usize>)>, KernelError> {
        let kernel = self.kernel;
        let field = |what, offset| kernel.pointer_at(what, at.wrapping_add(offset));
        let turnstile = field("td_blocked", self.layout.blocked)?;
        if turnstile != VirtAddr(0) {
            let lockobj = turnstile.wrapping_add(self.layout.lockobj);
            let lock = kernel.pointer_at("ts_lockobj", lockobj)?;
            let number = self.lock(lock, None, Some(turnstile));
            if number.is_none() {
                self.problem(&format!("turnstile at {turnstile}: no lock at {lock}"));
            }
            return Ok(Some((Queue::Turnstile, lock, number)));
        }
        let channel = field("td_wchan", self.layout.wchan)?;
        if channel == VirtAddr(0) {
            return Ok(None);
        }
        let message = field("td_wmesg", self.layout.wmesg)?;
        let lock = self.lock(channel, Some(message), None);
        Ok(Some((Queue::Sleepqueue, channel, lock)))
    }

    /// Returns the index of the lock at `at`, if there is one. `message` is the wait message of a
    /// sleeping thread, `turnstile` the turnstile of a blocked one.
    fn lock(
        &mut self,
        at: VirtAddr,
        message: Option<VirtAddr>,
        turnstile: Option<VirtAddr>,
    ) -> Option<usize> {
        if let Some(known) = self.known.get(&at) {
            return *known;
        }
        let found = self.read_lock(at, message, turnstile);
        let number = found.map(|lock| {
            self.found.locks.push(lock);
            self.found.locks.len() - 1
        });
        self.known.insert(at, number);
        number
    }

    fn read_lock(
        &self,
        at: VirtAddr,
        message: Option<VirtAddr>,
        turnstile: Option<VirtAddr>,
    ) -> Option<Lock> {
        let (kernel, layout) = (self.kernel, &self.layout);
        let flags = kernel.uint_at("lo_flags", at.wrapping_add(layout.flags), 4);
        let flags = flags.ok()?;
        if flags & LO_INITIALIZED == 0 {
            return None;
        }
        let index = (flags & LO_CLASSMASK) >> LO_CLASSSHIFT;
        let class = (*self.classes.get(index as usize)?)?;
        let name = kernel.pointer_at("lo_name", at.wrapping_add(layout.name));
        let name = name.ok().filter(|name| *name != VirtAddr(0))?;
        let owner = self.owner(at, class, turnstile);
        if let Some(message) = message {
            // Any address can be a wait channel. The message of a thread that waits for an sx lock
            // is the lock's name; that of a lockmgr lock can be the caller's.
            let is_lock = match class {
                LockClass::Sx => message == name,
                LockClass::Lockmgr => {
                    message == name
                        || match owner {
                            Owner::Thread(owner) => self.threads.contains_key(&owner),
                            Owner::Kernel => true,
                            _ => false,
                        }
                }
                _ => false,
            };
            if !is_lock {
                return None;
            }
        }
        let name = kernel.c_string_at(name, NAME);
        Some(Lock {
            at,
            class,
            name: String::from_utf8_lossy(&name).into_owned(),
            owner,
            waiters: Vec::new(),
        })
    }

    fn owner(&self, at: VirtAddr, class: LockClass, turnstile: Option<VirtAddr>) -> Owner {
        let (kernel, layout) = (self.kernel, &self.layout);
        let word = |offset: u64| kernel.long_at("owner", at.wrapping_add(offset)).ok();
        let decoded = match class {
            LockClass::Mutex | LockClass::Spin => {
                word(layout.mtx_lock).map(|w| word::mutex(w, layout.osreldate))
            }
            LockClass::Rw => word(layout.rw_lock).map(|w| word::shared(w, layout.osreldate)),
            LockClass::Sx => word(layout.sx_lock).map(|w| word::shared(w, layout.osreldate)),
            LockClass::Lockmgr => {
                let all = u64::MAX >> (64 - 8 * kernel.elf().pointer_size());
                word(layout.lk_lock).map(|w| word::lockmgr(w, layout.osreldate, all))
            }
            // The reader that a writer waits for is in the turnstile.
            LockClass::Rm => turnstile.and_then(|at| {
                let owner = at.wrapping_add(layout.owner);
                let owner = kernel.pointer_at("ts_owner", owner).ok()?;
                (owner != VirtAddr(0)).then_some(Owner::Thread(owner))
            }),
        };
        decoded.unwrap_or(Owner::Unknown)
    }
}
