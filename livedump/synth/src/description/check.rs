//! The limits of particular architectures, and of processes.

use super::{Description, Doing, KernelKind, LockClass};
use crate::architecture::Architecture;
use crate::error::Error;
use crate::i386_link;
use crate::layout::Release;

/// Maximum `p_pid` (`PID_MAX`).
const PID_MAX: u32 = 99_999;
/// Maximum number of threads.
const MAX_THREADS: u64 = 200_000;

impl Description {
    /// Checks the keys that only some architectures support.
    pub(super) fn check_architecture(&self) -> Result<(), Error> {
        let page = self.page_size();
        let pages = self.row().page_sizes;
        if !pages.contains(&page) {
            return Err(Error::value(
                "memory.page_size",
                page,
                format!("one of {pages:?} on {}", self.architecture.name()),
            ));
        }
        let mut sizes = vec![
            ("memory.size", self.memory.size),
            ("msgbuf.size", self.msgbuf.size),
            ("content.kernel", self.content.kernel),
            ("content.direct", self.content.direct),
            ("content.nodump", self.content.nodump),
            ("content.free", self.content.free),
            ("content.user", self.content.user),
        ];
        sizes.extend(self.memory.holes.iter().map(|h| ("memory.holes", h.0)));
        sizes.extend(self.memory.holes.iter().map(|h| ("memory.holes", h.1)));
        if let Some((key, bytes)) = sizes.iter().find(|(_, b)| !b.0.is_multiple_of(page)) {
            return Err(Error::value(key, format!("{bytes:?}"), "whole pages"));
        }
        let numa = matches!(
            self.architecture,
            Architecture::Amd64 | Architecture::Aarch64
        );
        if !(1..=8).contains(&self.memory.domains) || self.memory.domains > 1 && !numa {
            let expected = "1 to 8 on amd64 and aarch64, and 1 on others";
            return Err(Error::value(
                "memory.domains",
                self.memory.domains,
                expected,
            ));
        }
        if self.kernel.pae && self.architecture != Architecture::I386 {
            return Err(Error::value("kernel.pae", true, "true on i386 only"));
        }
        if self.kernel.la57
            && (self.architecture != Architecture::Amd64
                || self.release() < Release::R15
                || self.kernel.kind == KernelKind::Compiled)
        {
            let expected = "true on amd64 since release 15.0 with kernel.kind symbols only";
            return Err(Error::value("kernel.la57", true, expected));
        }
        if self.kernel.fred
            && (self.architecture != Architecture::Amd64
                || self.release() < Release::R152
                || self.kernel.kind == KernelKind::Compiled)
        {
            let expected = "true on amd64 since release 15.2 with kernel.kind symbols or ctf only";
            return Err(Error::value("kernel.fred", true, expected));
        }
        if self.kernel.sv48 && !self.row().sv48 {
            let expected = format!("true on {} only", Architecture::names_with(|row| row.sv48));
            return Err(Error::value("kernel.sv48", true, expected));
        }
        if self.kernel.lpa2
            && (self.architecture != Architecture::Aarch64 || self.release() < Release::R15)
        {
            let expected = "true on aarch64 since release 15.0 only";
            return Err(Error::value("kernel.lpa2", true, expected));
        }
        if self.architecture == Architecture::Amd64 {
            return Ok(());
        }
        if self.architecture == Architecture::I386 {
            return self.check_i386();
        }
        if self.release().is_old() {
            return Err(Error::value(
                "kernel.release",
                &self.kernel.release,
                "14.0, 15.0 or 15.2 except on amd64 and i386",
            ));
        }
        if self.kernel.kind == KernelKind::Compiled {
            return Err(Error::value(
                "kernel.kind",
                "compiled",
                "symbols, ctf or auto except on amd64",
            ));
        }
        if self.content.giant.is_some() {
            return Err(Error::value(
                "content.giant",
                "set",
                "no value: only amd64 kernels map 1 GiB leaves",
            ));
        }
        if page != 4096 && self.content.large.0 != 0 {
            return Err(Error::value(
                "content.large",
                format!("{:?}", self.content.large),
                "0 with pages of 16 KiB",
            ));
        }
        let most = self.row().max_size;
        if self.memory.size.0 > most {
            return Err(Error::value(
                "memory.size",
                format!("{:?}", self.memory.size),
                format!("at most {most:#x} on {}", self.architecture.name()),
            ));
        }
        Ok(())
    }

    fn check_i386(&self) -> Result<(), Error> {
        let usual = i386_link::load(self.release(), self.kernel.pae);
        if self.load().0 != usual {
            return Err(Error::value(
                "kernel.load",
                format!("{:#x}", self.load().0),
                format!("{usual:#x} or no value: i386 kernels have a fixed address"),
            ));
        }
        let size = self.memory.size.0;
        let most = if self.kernel.pae {
            16 << 30
        } else {
            self.low()
        };
        if size > most {
            return Err(Error::value(
                "memory.size",
                format!("{size:#x}"),
                format!("at most {most:#x}: memory.low without PAE, 16 GiB with it"),
            ));
        }
        if self.kernel.kind == KernelKind::Compiled || self.content.giant.is_some() {
            return Err(Error::value(
                "kernel.kind, content.giant",
                "set",
                "kernel.kind symbols or ctf, and no 1 GiB leaf, on i386",
            ));
        }
        Ok(())
    }

    /// Checks the locks, and the threads that own them or wait for them.
    fn check_locks(&self) -> Result<(), Error> {
        let mut locks = std::collections::BTreeMap::new();
        if !self.lock.is_empty()
            && matches!(self.kernel.kind, KernelKind::Compiled | KernelKind::Auto)
        {
            let expected = "ctf or symbols in a machine with locks";
            return Err(Error::value("kernel.kind", "compiled or auto", expected));
        }
        for lock in &self.lock {
            if lock.name.is_empty() || lock.name.len() > 63 || lock.name.contains('\0') {
                return Err(Error::value("lock.name", &lock.name, "1 to 63 bytes"));
            }
            if locks.insert(lock.name.as_str(), lock).is_some() {
                return Err(Error::value("lock.name", &lock.name, "a unique name"));
            }
            if lock.sharers > 0 && lock.class == LockClass::Mutex {
                return Err(Error::value("lock.sharers", lock.sharers, "0 for a mutex"));
            }
        }
        let mut owned = std::collections::BTreeSet::new();
        for process in &self.process {
            for thread in &process.thread {
                let wanted = thread.lock.iter().chain(&thread.holds);
                for name in wanted {
                    if !locks.contains_key(name.as_str()) {
                        return Err(Error::value(
                            "process.thread.lock",
                            name,
                            "the name of a lock",
                        ));
                    }
                    if process.count > 1 {
                        let expected = "no lock in an entry with count";
                        return Err(Error::value("process.thread.lock", name, expected));
                    }
                }
                let waits = thread.lock.is_some();
                if waits
                    && (thread.doing != Doing::Sleeping || thread.wait.is_some() || thread.fault)
                {
                    let expected = "a sleeping thread without wait and fault";
                    return Err(Error::value("process.thread.lock", "set", expected));
                }
                for name in &thread.holds {
                    let shared = locks.get(name.as_str()).is_some_and(|l| l.sharers > 0);
                    if shared || !owned.insert(name) {
                        let expected = "a lock without sharers and another owner";
                        return Err(Error::value("process.thread.holds", name, expected));
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks the processes, before entries of several processes are expanded.
    pub(super) fn check_processes(&self) -> Result<(), Error> {
        self.check_locks()?;
        let mut running = vec![false; self.state.cpus as usize];
        let mut pids = std::collections::BTreeSet::new();
        let mut threads = 0_u64;
        for process in &self.process {
            if process.name.is_empty() || process.name.len() > 19 || process.name.contains('\0') {
                return Err(Error::value("process.name", &process.name, "1 to 19 bytes"));
            }
            let last = process.pid.checked_add(process.count.max(1) - 1);
            let Some(last) = last.filter(|last| *last <= PID_MAX && process.count > 0) else {
                return Err(Error::value(
                    "process.count",
                    process.count,
                    format!("at least 1, and pids of at most {PID_MAX}"),
                ));
            };
            if let Some(pid) = (process.pid..=last).find(|pid| !pids.insert(*pid)) {
                return Err(Error::value("process.pid", pid, "a unique pid"));
            }
            threads += u64::from(process.count) * (process.thread.len() as u64).max(1);
            if threads > MAX_THREADS {
                return Err(Error::value(
                    "process.count",
                    process.count,
                    format!("at most {MAX_THREADS} threads in all processes"),
                ));
            }
            for thread in &process.thread {
                for (key, text) in [
                    ("process.thread.name", &thread.name),
                    ("process.thread.wait", &thread.wait),
                ] {
                    if let Some(text) = text
                        && (text.is_empty() || text.len() > 19 || text.contains('\0'))
                    {
                        return Err(Error::value(key, text, "1 to 19 bytes"));
                    }
                }
                match (thread.doing, thread.cpu) {
                    (Doing::Running, Some(cpu)) if process.count > 1 => {
                        return Err(Error::value(
                            "process.thread.cpu",
                            cpu,
                            "no running thread in an entry with count",
                        ));
                    }
                    (Doing::Running, Some(cpu)) => match running.get_mut(cpu as usize) {
                        Some(busy) if !*busy => *busy = true,
                        _ => {
                            return Err(Error::value(
                                "process.thread.cpu",
                                cpu,
                                "a CPU below state.cpus with no other thread",
                            ));
                        }
                    },
                    (Doing::Running, None) => {
                        return Err(Error::value(
                            "process.thread.cpu",
                            "absent",
                            "the CPU of the running thread",
                        ));
                    }
                    (_, Some(cpu)) => {
                        return Err(Error::value(
                            "process.thread.cpu",
                            cpu,
                            "no value for a thread that is not running",
                        ));
                    }
                    (_, None) => {}
                }
                if thread.fault && !matches!(thread.doing, Doing::Running | Doing::Sleeping) {
                    return Err(Error::value(
                        "process.thread.fault",
                        true,
                        "a running thread",
                    ));
                }
            }
        }
        if self.state.panic.is_some() && !running.iter().any(|&busy| busy) {
            return Err(Error::value(
                "state.panic",
                "set",
                "a running thread that panicked",
            ));
        }
        Ok(())
    }
}
