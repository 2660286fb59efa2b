//! The contents of a mounted dump.

use std::collections::{HashMap, HashSet};
use std::fmt::{Display, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use livecore_compress::ReadAt;
use livecore_kernel::{Kernel, Pair, Process, Thread};
use livecore_livedump::conversion::{Conversion, Kind};
use livecore_minidump::elf::notes::NoteStyle;
use livecore_minidump::facts::Facts;
use livecore_minidump::{AnyDump, DumpMemory, MessageBuffer, PhysAddr};

use super::event::Event;
use crate::json;
use crate::stack_text;

/// The number of different errors that are printed.
const ERRORS: usize = 100;

/// The largest size of a file.
const MAX: u64 = i64::MAX as u64;

/// Processes and threads, by their numbers. A dump may have a number twice; the first is used.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) threads: Vec<Thread>,
    pub(super) processes: Vec<Process>,
    pub(super) by_tid: HashMap<i32, usize>,
    pub(super) by_pid: HashMap<i32, usize>,
}

/// An open dump and what has been computed of it.
pub(crate) struct Contents {
    dump: AnyDump,
    pair: Option<Pair>,
    kernel: Option<Kernel<'static>>,
    payload: Arc<dyn ReadAt>,
    payload_len: u64,
    memory: Arc<dyn DumpMemory>,
    pub(super) dmesg: Option<Vec<u8>>,
    pub(super) info: Vec<u8>,
    elf: OnceLock<Option<(Arc<dyn ReadAt>, u64)>>,
    lists: OnceLock<Lists>,
    /// The errors that were printed.
    printed: Mutex<HashSet<String>>,
    events: SyncSender<Event>,
}

impl Contents {
    /// The contents of `dump`, whose path is `path`. `events` receives the errors of later reads.
    pub(crate) fn new(
        path: &Path,
        dump: AnyDump,
        pair: Option<Pair>,
        events: SyncSender<Event>,
    ) -> Self {
        let warnings = dump.envelope().warnings().iter();
        let warnings = warnings.map(|warning| (warning.id().into(), warning.to_string()));
        let facts = Facts::of(&dump, path, warnings.collect());
        let mut info = Vec::new();
        // Writing to memory does not fail.
        let _ = json::print(&facts, &mut info);
        let payload = dump.payload();
        let contents = Self {
            payload_len: payload.size().unwrap_or_else(|_| dump.end()).min(MAX),
            payload,
            memory: dump.memory(),
            kernel: pair.as_ref().map(|pair| pair.kernel().detailed()),
            dmesg: None,
            info,
            elf: OnceLock::new(),
            lists: OnceLock::new(),
            printed: Mutex::default(),
            events,
            dump,
            pair,
        };
        let dmesg = contents.message_buffer();
        Self { dmesg, ..contents }
    }

    fn message_buffer(&self) -> Option<Vec<u8>> {
        let buffer = match (&self.pair, self.dump.minidump()) {
            (Some(pair), _) => pair.message_buffer().map_err(|e| self.print("dmesg", &e)),
            (None, Some(mini)) => {
                MessageBuffer::of(mini, None).map_err(|e| self.print("dmesg", &e))
            }
            (None, None) => return None,
        };
        Some(buffer.ok()?.dmesg(false))
    }

    /// Prints an error of `file` once.
    fn print(&self, file: &str, error: &dyn Display) {
        let line = format!("{file}: {error}");
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        if printed.len() > ERRORS || printed.contains(&line) {
            return;
        }
        printed.insert(line.clone());
        let line = match printed.len() > ERRORS {
            true => "more errors are not printed".into(),
            false => line,
        };
        // The main thread prints it, unless it stops.
        let _ = self.events.try_send(Event::Error(line));
    }

    /// Whether the dump has an ELF core: that of a full dump needs the kernel.
    pub(super) fn has_elf(&self) -> bool {
        self.pair.is_some() || self.dump.minidump().is_some()
    }

    pub(super) fn has_kernel(&self) -> bool {
        self.kernel.is_some()
    }

    /// The core of `livecore convert --to elf` and its size. The first call walks the page tables.
    pub(super) fn elf(&self) -> Option<&(Arc<dyn ReadAt>, u64)> {
        let plan = || {
            let (style, kind) = (NoteStyle::FreeBsd, Some(Kind::Elf));
            let pair = self.pair.as_ref();
            let planned = Conversion::plan(&self.dump, kind, style, pair, &mut Vec::new());
            match planned.map_err(|e| self.print("elf", &e)).ok()? {
                Conversion::ToElf(_, export) | Conversion::FullToElf(_, export) => {
                    let size = export.core.size();
                    let size = size.map_err(|e| self.print("elf", &e)).ok()?;
                    Some((export.core, size.min(MAX)))
                }
                _ => None,
            }
        };
        self.elf.get_or_init(plan).as_ref()
    }

    /// Processes and threads. The first call reads them.
    pub(super) fn lists(&self) -> &Lists {
        self.lists.get_or_init(|| {
            let Some(kernel) = &self.kernel else {
                return Lists::default();
            };
            let found = match kernel.processes() {
                Ok(found) => found,
                Err(error) => {
                    self.print("threads", &error);
                    return Lists::default();
                }
            };
            for problem in &found.problems {
                self.print("threads", problem);
            }
            let mut lists = Lists {
                threads: found.threads().cloned().collect(),
                processes: found.list,
                ..Lists::default()
            };
            for (i, thread) in lists.threads.iter().enumerate() {
                lists.by_tid.entry(thread.tid).or_insert(i);
            }
            for (i, process) in lists.processes.iter().enumerate() {
                lists.by_pid.entry(process.pid).or_insert(i);
            }
            lists
        })
    }

    pub(super) fn payload_len(&self) -> u64 {
        self.payload_len
    }

    pub(super) fn memory_end(&self) -> u64 {
        self.memory.memory_end().0.min(MAX)
    }

    /// The number of bytes of memory in the dump.
    pub(super) fn memory_bytes(&self) -> u64 {
        let pages = self.dump.page_count();
        pages.saturating_mul(self.memory.page_size())
    }

    /// The uncompressed payload.
    pub(super) fn read_payload(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let read = self.payload.read_full_at(buf, at);
        read.inspect_err(|e| self.print("vmcore", e))
    }

    /// The ELF core.
    pub(super) fn read_elf(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let (core, _) = self.elf().ok_or(io::ErrorKind::Other)?;
        let read = core.read_full_at(buf, at);
        read.inspect_err(|e| self.print("elf", e))
    }

    /// Physical memory from `at`. Pages that are not in the dump are zero.
    pub(super) fn read_memory(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        buf.fill(0);
        let mut done = 0;
        while done < buf.len() {
            let here = PhysAddr(at + done as u64); // below `memory_end`
            let run = self.memory.run_at(here);
            let left = (buf.len() - done) as u64;
            let len = run
                .end
                .map_or(left, |end| left.min(end.0.saturating_sub(here.0)));
            if len == 0 {
                break;
            }
            let end = done + len as usize; // at most the length of `buf`
            if run.present {
                let read = self.memory.read_phys(here, &mut buf[done..end]);
                read.map_err(|e| {
                    self.print("physmem", &e);
                    io::Error::other(e)
                })?;
            }
            done = end;
        }
        Ok(buf.len())
    }

    /// The next address from `at` in a page that is in the dump (`data`) or is not; `None` if there is
    /// none below `end`.
    pub(super) fn next_run(&self, at: u64, data: bool, end: u64) -> Option<u64> {
        let mut at = at;
        while at < end {
            let run = self.memory.run_at(PhysAddr(at));
            if run.present == data {
                return Some(at);
            }
            at = run.end.map(|end| end.0).filter(|next| *next > at)?;
        }
        None
    }

    /// The registers of a thread, one a line.
    pub(super) fn registers(&self, number: usize) -> Option<Vec<u8>> {
        let (kernel, thread) = (self.kernel.as_ref()?, self.lists().threads.get(number)?);
        let registers = kernel.registers(thread);
        let registers = registers.map_err(|e| self.print(&format!("threads/{}", thread.tid), &e));
        let width = 2 + 2 * kernel.elf().pointer_size();
        let mut text = String::new();
        for (name, value) in registers.ok()?.known() {
            let _ = writeln!(text, "{name} {value:#0width$x}");
        }
        Some(text.into_bytes())
    }

    /// The backtrace of a thread, as `livecore threads` prints it.
    pub(super) fn stack(&self, number: usize) -> Option<Vec<u8>> {
        let (kernel, thread) = (self.kernel.as_ref()?, self.lists().threads.get(number)?);
        let registers = kernel.registers(thread);
        let registers = registers.map_err(|e| self.print(&format!("threads/{}", thread.tid), &e));
        let mut text = Vec::new();
        stack_text::write(kernel, &registers.ok()?, &mut text).ok()?;
        Some(text)
    }

    /// The properties of a process, one a line.
    pub(super) fn status(&self, number: usize) -> Option<Vec<u8>> {
        let process = self.lists().processes.get(number)?;
        let parent = process.ppid.map_or("-".into(), |pid| pid.to_string());
        let command = livecore_defs::text::printable(&process.comm);
        let text = format!(
            "pid {}\nppid {parent}\ncommand {command}\nzombie {}\naddress {:#x}\n",
            process.pid, process.zombie, process.at.0,
        );
        Some(text.into_bytes())
    }

    /// The thread ids of a process, one a line.
    pub(super) fn tids(&self, number: usize) -> Option<Vec<u8>> {
        let process = self.lists().processes.get(number)?;
        let lines = process
            .threads
            .iter()
            .map(|thread| format!("{}\n", thread.tid));
        Some(lines.collect::<String>().into_bytes())
    }
}

/// The paths that must not be in the mounted directory.
pub(crate) fn inside(directory: &Path, paths: &[PathBuf]) -> Option<PathBuf> {
    // A file that does not exist yet is in the directory that its parent is.
    let real = |path: &Path| {
        let parent = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
        path.canonicalize().ok().or_else(parent)
    };
    let found = paths
        .iter()
        .find(|path| real(path).is_some_and(|real| real.starts_with(directory)));
    found.cloned()
}
