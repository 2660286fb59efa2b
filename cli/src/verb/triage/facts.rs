//! The facts of a crash, as docs/schemas/triage.schema.json describes them.

use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use livecore_kernel::{
    Context, Kernel, LOCK_STRUCTURES, Pair, SECTION_STRUCTURES, Signature, Thread,
};
use livecore_minidump::{AnyDump, Architecture, KernelDumpHeader, MessageBuffer, VirtAddr};
use serde::Serialize;

use super::locks::LockFacts;
use super::sections::{self, SectionFacts};
use super::thread::ThreadFacts;
use crate::crash::SignatureFacts;

/// The longest kernel string that is read.
const STRING: usize = 1024;

/// What to report.
pub(super) struct Asked<'a> {
    /// The dump's name.
    pub(super) name: &'a Path,
    /// Number of lines from the end of the message buffer.
    pub(super) lines: usize,
    /// Include threads that are not on a CPU.
    pub(super) all: bool,
    /// The names of the sections to report.
    pub(super) sections: &'a [String],
    /// Whether the report goes to the log of a CI job.
    pub(super) ci: bool,
}

/// The facts of a crash.
#[derive(Debug, Serialize)]
pub(super) struct Triage {
    pub(super) dump: String,
    pub(super) kind: &'static str,
    pub(super) container: &'static str,
    pub(super) codec: &'static str,
    pub(super) architecture: &'static str,
    pub(super) file_size: u64,
    pub(super) payload_size: Option<u64>,
    pub(super) pages: Option<u64>,
    pub(super) hostname: Option<String>,
    pub(super) panic: Option<String>,
    pub(super) signature: Option<SignatureFacts>,
    /// Whether the kernel has not panicked.
    #[serde(skip)]
    pub(super) no_panic: bool,
    pub(super) version: Option<String>,
    pub(super) dumped: Option<String>,
    pub(super) uptime_seconds: Option<u64>,
    pub(super) cpus: Vec<ThreadFacts>,
    pub(super) processes: Option<Vec<ProcessFacts>>,
    pub(super) threads: Option<usize>,
    pub(super) chains: Vec<ThreadFacts>,
    /// Null without a kernel, or if the kernel does not show it.
    pub(super) locks: Option<LockFacts>,
    /// The sections that were asked for.
    pub(super) sections: Vec<SectionFacts>,
    pub(super) message_buffer: Option<Vec<String>>,
    pub(super) missing: Vec<String>,
    /// Whether the report goes to the log of a CI job.
    #[serde(skip)]
    pub(super) ci: bool,
    /// Hexadecimal digits of an address.
    #[serde(skip)]
    pub(super) digits: usize,
}

/// A process.
#[derive(Debug, Serialize)]
pub(super) struct ProcessFacts {
    pub(super) pid: i32,
    pub(super) ppid: Option<i32>,
    pub(super) command: String,
    pub(super) threads: usize,
    pub(super) state: &'static str,
}

impl Triage {
    /// Collects what the dump and its kernel show.
    pub(super) fn of(asked: &Asked<'_>, dump: &AnyDump, pair: Option<&Pair>) -> Self {
        let mut triage = Self::of_dump(asked, dump);
        triage.message_buffer = match message_buffer(dump, pair) {
            Ok(text) => {
                let lines: Vec<_> = text.lines().map(str::to_string).collect();
                let skip = lines.len().saturating_sub(asked.lines);
                Some(lines.into_iter().skip(skip).collect())
            }
            Err(why) => {
                triage.missing.push(format!("message buffer: {why}"));
                None
            }
        };
        let header = dump.envelope().kerneldumpheader();
        let message = header.map(|header| &header.panicstring[..]);
        let signature = match pair {
            Some(pair) => {
                let structures = [&LOCK_STRUCTURES[..], &SECTION_STRUCTURES].concat();
                let kernel = pair.kernel().detailed_with(&structures);
                let problems = kernel.types().into_iter().flat_map(|t| &t.problems);
                triage.missing.extend(problems.cloned());
                triage.add_kernel(&kernel, asked);
                kernel.signature(message)
            }
            None => {
                let what = "processes, CPUs, uptime: no kernel file; use --kernel ELF";
                triage.missing.push(what.into());
                Signature::new(message, [])
            }
        };
        triage.signature = signature.as_ref().map(SignatureFacts::from);
        triage
    }

    fn of_dump(asked: &Asked<'_>, dump: &AnyDump) -> Self {
        let header = dump.envelope().kerneldumpheader();
        let text = |field: fn(&KernelDumpHeader) -> &Vec<u8>| {
            header.map(|h| text(field(h))).filter(|t| !t.is_empty())
        };
        Self {
            dump: asked.name.display().to_string(),
            kind: dump.kind(),
            container: dump.envelope().container().name(),
            codec: dump.envelope().codec().name(),
            architecture: dump.arch().name,
            file_size: dump.envelope().file_len(),
            payload_size: dump.envelope().known_len(),
            pages: Some(dump.page_count()),
            hostname: text(|h| &h.hostname),
            panic: text(|h| &h.panicstring),
            signature: None,
            no_panic: false,
            version: text(|h| &h.versionstring),
            dumped: header
                .filter(|h| h.dumptime != 0)
                .and_then(|h| utc(h.dumptime)),
            uptime_seconds: None,
            cpus: Vec::new(),
            processes: None,
            threads: None,
            chains: Vec::new(),
            locks: None,
            sections: Vec::new(),
            message_buffer: None,
            missing: Vec::new(),
            ci: asked.ci,
            digits: 16,
        }
    }

    /// Adds what the kernel shows. Its values replace those of the header.
    fn add_kernel(&mut self, kernel: &Kernel<'_>, asked: &Asked<'_>) {
        let word = kernel.elf().pointer_size();
        self.digits = 2 * word;
        match kernel.address("version").map(|at| string(kernel, at)) {
            Ok(Some(version)) => self.version = Some(version),
            Ok(None) => self.missing.push("version: cannot be read".into()),
            Err(error) => self.missing.push(format!("version: {error}")),
        }
        match kernel.pointer("panicstr") {
            Ok(VirtAddr(0)) => self.no_panic = true,
            Ok(at) => match string(kernel, at) {
                Some(panic) => self.panic = Some(panic),
                None => self.missing.push("panic message: cannot be read".into()),
            },
            Err(error) => self.missing.push(format!("panic message: {error}")),
        }
        let row = Architecture::of_machine(kernel.elf().machine());
        let time = row.map_or(8, |row| row.time_t);
        match kernel.variable("time_uptime", time) {
            Ok(seconds) => self.uptime_seconds = Some(seconds),
            Err(error) => self.missing.push(format!("uptime: {error}")),
        }
        let found = match kernel.processes() {
            Ok(found) => found,
            Err(error) => {
                self.missing.push(format!("processes: {error}"));
                return;
            }
        };
        let threads: Vec<&Thread> = found.list.iter().flat_map(|p| &p.threads).collect();
        self.threads = Some(threads.len());
        let mut busy: Vec<&Thread> = threads
            .iter()
            .copied()
            .filter(|t| t.context != Context::SwitchedOut)
            .collect();
        busy.sort_by_key(|t| (t.context != Context::Crashed, t.cpu));
        self.cpus = busy.iter().map(|t| ThreadFacts::of(kernel, t)).collect();
        if asked.all {
            let others = threads.iter().filter(|t| t.context == Context::SwitchedOut);
            self.chains = others.map(|t| ThreadFacts::of(kernel, t)).collect();
        }
        let mut missing = Vec::new();
        let backtrace = |thread: &Thread| ThreadFacts::of(kernel, thread);
        let locks = LockFacts::read(kernel, &found.list, &mut missing, backtrace);
        self.locks = locks
            .map_err(|error| missing.push(format!("locks: {error}")))
            .ok();
        self.missing.append(&mut missing);
        self.sections = sections::read(kernel, &found.list, asked.sections);
        let processes = found.list.iter().map(|process| ProcessFacts {
            pid: process.pid,
            ppid: process.ppid,
            command: process.comm.clone(),
            threads: process.threads.len(),
            state: if process.zombie { "zombie" } else { "alive" },
        });
        self.processes = Some(processes.collect());
        self.missing.extend(found.problems);
    }
}

fn message_buffer(dump: &AnyDump, pair: Option<&Pair>) -> Result<String, String> {
    let buffer = match (pair, dump.minidump()) {
        (Some(pair), _) => pair.message_buffer(),
        (None, Some(mini)) => MessageBuffer::of(mini, None),
        (None, None) => return Err("a full dump needs --kernel to locate it".into()),
    };
    let buffer = buffer.map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&buffer.dmesg(true)).into_owned())
}

/// The string at `at`, up to its NUL or to the end of readable memory.
fn string(kernel: &Kernel<'_>, at: VirtAddr) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < STRING {
        let mut piece = [0; 16];
        let here = at.checked_add(bytes.len() as u64)?;
        // A piece does not cross a page, so every readable byte is read.
        let n = piece.len() - here.offset_in(16) as usize;
        if kernel.bytes_at("string", here, &mut piece[..n]).is_err() {
            break;
        }
        match piece[..n].iter().position(|b| *b == 0) {
            Some(end) => {
                bytes.extend(&piece[..end]);
                break;
            }
            None => bytes.extend(&piece[..n]),
        }
    }
    Some(text(&bytes)).filter(|text| !text.is_empty())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_string()
}

fn utc(seconds: u64) -> Option<String> {
    let time = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    let time = time.to_zoned(TimeZone::UTC);
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
