//! `monitor` commands, for information that no packet provides.

use std::fmt::Write as _;
use std::path::Path;

use livecore_kernel::{ProcessTable, STRUCTURES, Thread, Types};
use livecore_minidump::{AnyDump, PhysAddr, VirtAddr, info};

use super::check::Depth;
use super::greeting::Greeting;
use super::session::{Answer, Client, Session};
use super::target::Served;
use livecore_defs::text::printable;
use livecore_kernel::{Location, LocationError, parse_number, parse_phys};

const HELP: &str = "\
help                 this text
info                 the dump, its kernel, and why it was written
dmesg [-a]           the kernel's message buffer
ps                   processes and threads
bt [N|TID|all]       backtrace through trap frames, of the selected thread or another
thread N             select gdb's thread N for `monitor bt`
kld                  loaded kernel files, and commands that add their symbols
vtop ADDRESS|SYMBOL  physical address of a virtual one, and whether it is in the dump
page ADDRESS         a physical page: where the dump has it, where the kernel maps it
phys on|off          addresses are physical from now on, or virtual again
verify [quick|deep]  check the dump's structures
";

impl Served {
    /// The panic message, from the header or else from the kernel.
    pub(crate) fn panic(&self) -> Option<String> {
        let header = self.pair.dump().envelope().kerneldumpheader().map(|h| {
            let text = h.panicstring.split(|b| *b == 0).next().unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        });
        let text = header.filter(|text| !text.is_empty()).or_else(|| {
            let kernel = self.kernel();
            let at = kernel.address("panicstr").ok()?;
            let text = kernel.string_at(kernel.pointer_at("panicstr", at).ok()?);
            (!text.is_empty()).then_some(text)
        });
        text.map(|text| printable(text.trim_end()))
    }

    /// Whether the kernel has not panicked.
    fn never_panicked(&self) -> bool {
        let kernel = self.kernel();
        let at = kernel.variable("panicstr", kernel.elf().pointer_size());
        at.is_ok_and(|at| at == 0)
    }

    /// The first lines for a debugger's user: panic message, kernel version, help.
    pub fn greeting(&self) -> Vec<Greeting> {
        let mut lines = Vec::new();
        lines.extend(self.panic().map(Greeting::Panic));
        if let Ok(at) = self.kernel().address("version") {
            let version = self.kernel().string_at(at);
            let line = version.lines().next().unwrap_or_default();
            lines.push(Greeting::Version(printable(line)));
        }
        let unread = self.pair.message_buffer().ok().and_then(|buffer| {
            let ring = buffer.msgbuf()?;
            let [written, read, modulus] =
                [ring.msg_wseq, ring.msg_rseq, ring.msg_seqmod].map(u64::from);
            (written + modulus).checked_sub(read)?.checked_rem(modulus)
        });
        lines.extend(unread.filter(|unread| *unread > 0).map(Greeting::Unread));
        lines.extend([Greeting::ReadOnly, Greeting::Help]);
        lines
    }

    fn info(&self) -> String {
        let dump = self.pair.dump();
        let mut text = String::new();
        // Writing to a string does not fail.
        let path = |path: &Path| printable(&path.display().to_string());
        let _ = writeln!(text, "dump     {}", path(&self.name));
        let _ = writeln!(text, "kernel   {}", path(&self.kernel_path));
        let _ = match dump {
            AnyDump::Mini(mini) => {
                let version = mini.header().version;
                writeln!(text, "format   {} minidump version {version}", dump.arch())
            }
            AnyDump::Full(_) => writeln!(text, "format   {} full dump", dump.arch()),
        };
        let _ = writeln!(
            text,
            "pages    {} of {} bytes",
            dump.page_count(),
            self.memory.page_size()
        );
        if let Some(header) = dump.envelope().kerneldumpheader() {
            let of = |bytes: &[u8]| {
                let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
                printable(String::from_utf8_lossy(text).trim_end())
            };
            let _ = writeln!(text, "host     {}", of(&header.hostname));
            let _ = writeln!(text, "version  {}", of(&header.versionstring));
            let time = match header.dumptime {
                0 => "unknown".into(),
                seconds => info::utc(seconds),
            };
            let _ = writeln!(text, "time     {time}");
        }
        let panic = match self.panic() {
            Some(panic) => panic,
            None if self.never_panicked() => "none".into(),
            None => "unknown".into(),
        };
        let _ = writeln!(text, "panic    {panic}");
        let on_cpu = self.threads.iter().filter(|t| t.cpu().is_some()).count();
        let _ = writeln!(text, "threads  {}, {on_cpu} on CPUs", self.threads.len());
        let _ = writeln!(
            text,
            "modules  {}, {} with a file",
            self.modules.list.iter().filter(|m| !m.is_kernel).count(),
            self.module_files.len()
        );
        for warning in dump.envelope().warnings() {
            let _ = writeln!(text, "warning  {}", printable(&warning.to_string()));
        }
        for problem in self.problems() {
            let _ = writeln!(text, "problem  {}", printable(&problem.to_string()));
        }
        text
    }

    /// What `livecore ps` prints.
    fn ps(&self) -> Result<String, String> {
        let types = Types::read(self.pair.elf(), &STRUCTURES);
        let kernel = self.kernel().clone().with_types(&types);
        let found = kernel.processes().map_err(|e| e.to_string())?;
        let (kernel, list) = (&kernel, &found.list);
        Ok(ProcessTable { kernel, list }.to_string())
    }

    fn kld(&self, client: Client) -> String {
        let mut text = String::from("ID ADDRESS            SIZE       NAME\n");
        for module in &self.modules.list {
            let _ = writeln!(
                text,
                "{:2} {:#018x} {:#10x} {}{}",
                module.id,
                module.address,
                module.size,
                printable(&module.name),
                match module.path.as_str() {
                    "" => String::new(),
                    path => format!(" ({})", printable(path)),
                }
            );
        }
        for problem in &self.modules.problems {
            let _ = writeln!(text, "{}", printable(problem));
        }
        for file in &self.module_files {
            let command = match client {
                Client::Gdb => file.command(),
                Client::Lldb => file.lldb_command(),
            };
            let _ = writeln!(text, "{command}");
        }
        text
    }

    fn vtop(&self, at: VirtAddr) -> String {
        let physical = match self.memory.translate(at) {
            Ok(found) => found,
            Err(error) => return format!("{error}\n"),
        };
        format!("{at:#x} -> {physical}{}\n", self.place(physical))
    }

    fn place(&self, at: PhysAddr) -> String {
        match self.memory.offset_of(at) {
            Some(offset) => format!(", at {offset:#x} of the payload"),
            None => ", not in the dump".into(),
        }
    }

    fn page(&self, at: PhysAddr) -> String {
        let memory = &self.memory;
        let page = memory.page_size();
        let start = PhysAddr(at.0 - at.0 % page);
        let mut text = format!("page {start}{}\n", self.place(start));
        if let Some(direct) = memory.direct_map_of(start) {
            let _ = writeln!(text, "direct map {direct}");
        }
        let mut found = 0;
        let walked = memory.walk(&mut |mapping| {
            if let Some(skip) = start.0.checked_sub(mapping.pa.0)
                && skip < mapping.len
            {
                found += 1;
                let _ = writeln!(
                    text,
                    "kernel map {:#x} r{}{}",
                    mapping.va.0.wrapping_add(skip),
                    if mapping.protection.write { "w" } else { "" },
                    if mapping.protection.execute { "x" } else { "" },
                );
            }
            // After 64 mappings of the same page, omit the others.
            if found < 64 {
                std::ops::ControlFlow::Continue(())
            } else {
                std::ops::ControlFlow::Break(())
            }
        });
        if let Err(error) = walked {
            let _ = writeln!(text, "kernel map: {error}");
        }
        text
    }

    fn backtrace(&self, thread: &Thread) -> String {
        let mut text = format!("{} (tid {})\n", printable(&thread.title()), thread.tid);
        let symbols = super::target::ModuleSymbols::of(self);
        let kernel = self.kernel().clone().with_functions(&symbols);
        let registers = match kernel.registers(thread) {
            Ok(registers) => registers,
            Err(error) => {
                let _ = writeln!(text, "{error}");
                return text;
            }
        };
        let frames = kernel.stack(&registers);
        if frames.is_empty() {
            text += "registers unknown: the CPU was not stopped\n";
        }
        let mut number = 0;
        for frame in &frames {
            if frame.omitted > 0 {
                let _ = writeln!(text, "({} frames omitted)", frame.omitted);
                number += frame.omitted;
            }
            let _ = write!(text, "#{number:<3} {:#018x}", frame.pc);
            match frame.place() {
                place if place.is_empty() => text.push('\n'),
                place => {
                    let _ = writeln!(text, " {place}");
                }
            }
            number += 1;
            if let Some(trap) = &frame.trap {
                let _ = writeln!(text, "{trap}");
            }
            if let Some(why) = &frame.ends {
                let _ = writeln!(text, "end of backtrace: {why}");
            }
        }
        text
    }

    /// Parses an address, or a symbol with an optional `+OFFSET`.
    fn location(&self, text: &str) -> Result<VirtAddr, String> {
        let (name, offset) = match text.parse().map_err(|e: LocationError| e.to_string())? {
            Location::Address(at) => return Ok(VirtAddr(at)),
            Location::Symbol { name, offset } => (name, offset),
        };
        let at = self.kernel().address(&name).map_err(|e| e.to_string())?;
        at.checked_add(offset)
            .ok_or_else(|| format!("{text} is not an address or symbol"))
    }

    fn verify(&self, depth: Depth) -> Result<String, String> {
        match &self.check {
            Some(check) => check(depth),
            None => Err("verify is not available in this server".into()),
        }
    }
}

impl Session<'_> {
    /// Runs a `monitor` command.
    pub(crate) fn monitor(&mut self, line: &str) -> Answer {
        match self.command(line) {
            Ok(text) => Answer::Console(text, b"OK".to_vec()),
            Err(why) => {
                let text = format!("{why}; `monitor help` lists the commands\n");
                Answer::Console(text, b"OK".to_vec())
            }
        }
    }

    fn command(&mut self, line: &str) -> Result<String, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let served = self.served;
        Ok(match words[..] {
            ["help"] | [] => HELP.into(),
            ["info"] => served.info(),
            ["ps"] => served.ps()?,
            ["kld"] => served.kld(self.client),
            ["dmesg"] => self.dmesg(false)?,
            ["dmesg", "-a"] => self.dmesg(true)?,
            ["vtop", at] => served.vtop(served.location(at)?),
            ["page", at] => served.page(parse_phys(at).map_err(|e| e.to_string())?),
            ["phys", "on"] => {
                self.physical = true;
                "addresses are physical\n".into()
            }
            ["phys", "off"] => {
                self.physical = false;
                "addresses are virtual\n".into()
            }
            ["bt"] => self.backtrace(),
            ["bt", "all"] => self.backtraces(0..served.threads.len()),
            ["bt", which] => {
                let thread = self.thread_named(which)?;
                self.backtraces(thread..thread + 1)
            }
            // `livecore gdb` makes gdb send this before each `monitor` command. Thread 0 is none.
            ["thread", "0"] => {
                self.chosen = None;
                String::new()
            }
            ["thread", which] => {
                self.chosen = Some(self.thread_named(which)?);
                String::new()
            }
            ["verify"] => served.verify(Depth::Default)?,
            ["verify", "quick"] => served.verify(Depth::Quick)?,
            ["verify", "deep"] => served.verify(Depth::Deep)?,
            _ => return Err(format!("unknown command `{}`", printable(line))),
        })
    }

    fn dmesg(&self, all: bool) -> Result<String, String> {
        let served = self.served;
        let buffer = served.pair.message_buffer().map_err(|e| e.to_string())?;
        let text = buffer.dmesg(all);
        let text = String::from_utf8_lossy(&text);
        // Escape control characters, so that a terminal shows them as text.
        let lines = text.split_inclusive('\n').map(|line| {
            let (line, end) = match line.strip_suffix('\n') {
                Some(line) => (line, "\n"),
                None => (line, ""),
            };
            let words: Vec<_> = line.split('\t').map(printable).collect();
            words.join("\t") + end
        });
        Ok(lines.collect())
    }

    /// The backtrace of the thread that is selected in the debugger.
    ///
    /// gdb sends its selection only when it needs registers: after `info threads` the last thread
    /// of that list is the selected one.
    fn backtrace(&self) -> String {
        let thread = self.chosen.unwrap_or(self.thread);
        let mut text = self.backtraces(thread..thread + 1);
        if self.chosen.is_none() && self.switched && self.client == Client::Gdb {
            text += "this is the thread that gdb read last; use `monitor bt N` for thread N of \
                     `info threads`\n";
        }
        text
    }

    /// A thread by gdb's number, which counts from 1 in the order of the list, or by its id.
    fn thread_named(&self, text: &str) -> Result<usize, String> {
        let number = parse_number(text).map_err(|e| e.to_string())?;
        let by_number = || {
            let at = usize::try_from(number).ok()?.checked_sub(1)?;
            (at < self.served.threads.len()).then_some(at)
        };
        let found = self.served.thread_of(number).or_else(by_number);
        found.ok_or_else(|| format!("no thread {text}"))
    }

    fn backtraces(&self, threads: std::ops::Range<usize>) -> String {
        let threads = self.served.threads.get(threads).unwrap_or_default();
        let texts = threads.iter().filter_map(|entry| entry.thread.as_ref());
        let texts: Vec<_> = texts.map(|t| self.served.backtrace(t)).collect();
        texts.join("\n")
    }
}
