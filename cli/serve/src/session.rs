//! The session of one debugger.

use livecore_defs::text::hex;
use std::io::{self, Write};

use super::machine::Register;
use super::memory;
use super::packet::{Event, Framing, PACKET_MAX, frame, number, two_numbers};
use super::target::Served;

/// Why a request to run or to write is refused.
pub const REFUSED: &str = "the target is a static dump";
/// What a dump cannot do: run.
const RUN: &str = "continue, step or call";
/// After so many retransmissions of a packet the connection is closed.
const RETRANSMIT_MAX: u32 = 8;

/// Whether the session continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It continues.
    Go,
    /// The debugger has detached, or the connection is unusable.
    Closed,
}

/// The debugger, since some packets need different answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Gdb,
    Lldb,
}

/// The answer to a packet.
pub(crate) enum Answer {
    /// A body. An empty one means that the packet is not supported.
    Body(Vec<u8>),
    /// Text for the debugger's user, then a body.
    Console(String, Vec<u8>),
    /// A body, if any, and the end of the session.
    Last(Option<Vec<u8>>),
}

impl From<&str> for Answer {
    fn from(body: &str) -> Self {
        Self::Body(body.into())
    }
}

impl From<String> for Answer {
    fn from(body: String) -> Self {
        Self::Body(body.into())
    }
}

impl From<Vec<u8>> for Answer {
    fn from(body: Vec<u8>) -> Self {
        Self::Body(body)
    }
}

/// The session of one debugger. It gets bytes in pieces of any size, and returns bytes.
///
/// The input is not trusted. Memory is bounded by [`PACKET_MAX`].
pub struct Session<'a> {
    pub(crate) served: &'a Served,
    framing: Framing,
    /// Whether packets are acknowledged.
    acks: bool,
    /// The last packet, for retransmission.
    last: Vec<u8>,
    again: u32,
    /// Whether a packet has arrived.
    heard: bool,
    /// Whether any byte has arrived.
    begun: bool,
    /// The thread that `monitor thread` selected.
    pub(crate) chosen: Option<usize>,
    /// Whether a thread other than the first was ever selected.
    pub(crate) switched: bool,
    pub(crate) client: Client,
    /// Whether addresses are physical.
    pub(crate) physical: bool,
    /// The thread whose registers are read.
    pub(crate) thread: usize,
    /// The next thread of the list being sent.
    pub(crate) listing: usize,
    /// Open files, by descriptor.
    pub(crate) open: [Option<usize>; 8],
    /// Whether lldb accepts text in errors.
    pub(crate) error_texts: bool,
}

impl<'a> Session<'a> {
    /// A new session for `served`.
    pub fn new(served: &'a Served) -> Self {
        Self {
            served,
            framing: Framing::new(),
            acks: true,
            last: Vec::new(),
            again: 0,
            heard: false,
            begun: false,
            chosen: None,
            switched: false,
            client: Client::Gdb,
            physical: false,
            thread: 0,
            listing: 0,
            open: [None; 8],
            error_texts: false,
        }
    }

    /// Whether a packet has arrived.
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// Parses bytes and writes the answers to `out`.
    ///
    /// # Errors
    ///
    /// Errors of `out`.
    pub fn receive(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<Flow> {
        if let Some(first) = bytes.first().filter(|_| !self.begun) {
            self.begun = true;
            // Close a connection with another protocol before it takes memory.
            if !matches!(first, b'$' | b'+' | b'-' | 0x03) {
                return Ok(Flow::Closed);
            }
        }
        for byte in bytes {
            let Some(event) = self.framing.push(*byte) else {
                continue;
            };
            if self.event(event, out)? == Flow::Closed {
                return Ok(Flow::Closed);
            }
        }
        Ok(Flow::Go)
    }

    fn event(&mut self, event: Event, out: &mut dyn Write) -> io::Result<Flow> {
        match event {
            Event::Packet(body) => {
                self.again = 0;
                self.heard = true;
                if self.acks {
                    out.write_all(b"+")?;
                }
                let answer = self.answer(&body);
                self.send(answer, out)
            }
            Event::Damaged => {
                if self.acks {
                    out.write_all(b"-")?;
                }
                Ok(Flow::Go)
            }
            Event::TooLong => {
                if self.acks {
                    out.write_all(b"+")?;
                }
                let answer = self.error("the packet is longer than PacketSize");
                self.send(answer, out)
            }
            // Without acknowledgments nothing is sent again.
            Event::Again if !self.acks => Ok(Flow::Go),
            Event::Again => {
                self.again += 1;
                if self.again > RETRANSMIT_MAX {
                    return Ok(Flow::Closed);
                }
                out.write_all(&self.last)?;
                Ok(Flow::Go)
            }
            // Nothing runs, but the debugger expects a stop reply.
            Event::Interrupt => {
                let answer = self.stop(self.thread);
                self.send(answer.into(), out)
            }
        }
    }

    fn send(&mut self, answer: Answer, out: &mut dyn Write) -> io::Result<Flow> {
        let (body, flow) = match answer {
            Answer::Body(body) => (Some(body), Flow::Go),
            Answer::Console(text, body) => {
                for piece in text.as_bytes().chunks(PACKET_MAX / 4) {
                    let mut packet = b"O".to_vec();
                    packet.extend(hex(piece).into_bytes());
                    self.packet(&packet, out)?;
                }
                (Some(body), Flow::Go)
            }
            Answer::Last(body) => (body, Flow::Closed),
        };
        if let Some(body) = body {
            self.packet(&body, out)?;
        }
        Ok(flow)
    }

    fn packet(&mut self, body: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.last.clear();
        frame(body, &mut self.last);
        out.write_all(&self.last)
    }

    /// Answers a packet.
    fn answer(&mut self, body: &[u8]) -> Answer {
        let Some((first, rest)) = body.split_first() else {
            return "".into();
        };
        match first {
            b'?' => {
                self.thread = 0;
                self.stop(0).into()
            }
            b'g' => self.all_registers(rest),
            b'p' => self.one_register(rest),
            b'm' => self.read_memory(rest, false),
            b'x' => self.read_memory(rest, true),
            b'H' => self.select(rest),
            b'T' => match number(rest).and_then(|id| self.served.thread_of(id)) {
                Some(_) => "OK".into(),
                None => self.error("no such thread"),
            },
            b'G' | b'P' | b'M' | b'X' => self.refuse("write memory or registers"),
            b'Z' | b'z' => self.refuse("set a breakpoint"),
            b'c' | b'C' | b's' | b'S' | b'i' | b'I' => self.refuse_to_run(),
            b'D' => Answer::Last(Some(b"OK".to_vec())),
            b'k' => Answer::Last(None),
            b'q' => self.query(rest),
            b'Q' => self.set(rest),
            b'v' => self.verbose(rest),
            b'j' if rest == b"ThreadsInfo" => {
                self.client = Client::Lldb;
                self.threads_json().into()
            }
            _ => "".into(),
        }
    }

    fn verbose(&mut self, rest: &[u8]) -> Answer {
        if let Some(file) = rest.strip_prefix(b"File:") {
            return self.file(file);
        }
        if rest == b"Cont?" {
            return "".into();
        }
        if rest.starts_with(b"Cont") {
            return self.refuse_to_run();
        }
        if rest.starts_with(b"Kill") {
            return Answer::Last(Some(b"OK".to_vec()));
        }
        if rest.starts_with(b"Run") || rest.starts_with(b"Attach") {
            return self.refuse("run or attach");
        }
        "".into()
    }

    /// The error for a request that a dump cannot serve.
    fn refuse(&self, what: &str) -> Answer {
        self.error(&format!("cannot {what}: {REFUSED}"))
    }

    /// An error with text, in the form that the debugger shows to its user.
    pub(crate) fn error(&self, text: &str) -> Answer {
        match self.client {
            Client::Gdb => format!("E.{text}").into(),
            Client::Lldb if self.error_texts => format!("E01;{}", hex(text.as_bytes())).into(),
            Client::Lldb => "E01".into(),
        }
    }

    /// The answer to a request to run. GDB shows an error. lldb would assume that the process is
    /// gone, so it gets text and a stop reply.
    fn refuse_to_run(&self) -> Answer {
        match self.client {
            Client::Gdb => self.refuse(RUN),
            Client::Lldb => Answer::Console(
                format!("livecore: cannot {RUN}: {REFUSED}\n"),
                self.stop(self.thread),
            ),
        }
    }

    /// The stop reply of `thread`.
    pub(crate) fn stop(&self, thread: usize) -> Vec<u8> {
        // There is always a first thread.
        let Some(entry) = self.served.threads.get(thread) else {
            return b"S05".to_vec();
        };
        let mut body = format!("T05thread:{:x};", entry.id);
        if self.client == Client::Lldb {
            body += &format!("hexname:{};", hex(entry.title.as_bytes()));
            body += &self.reason(thread);
        }
        body.into()
    }

    /// The stop reason of a thread, for lldb.
    pub(crate) fn reason(&self, thread: usize) -> String {
        match self.crash(thread) {
            Some(why) => format!("reason:exception;description:{};", hex(why.as_bytes())),
            None => "reason:signal;".into(),
        }
    }

    /// The stop reason of the thread that wrote the dump.
    pub(crate) fn crash(&self, thread: usize) -> Option<String> {
        let entry = self.served.threads.get(thread)?;
        if !entry.crashed() {
            return None;
        }
        let panic = self.served.panic();
        Some(match panic {
            Some(text) => format!("panic: {text}"),
            None => "wrote the dump".into(),
        })
    }

    /// Splits off `;thread:ID` at the end of a packet, which lldb always sends. Without it, the
    /// thread is the selected one.
    fn suffix<'p>(&self, rest: &'p [u8]) -> Option<(&'p [u8], usize)> {
        const MARK: &[u8] = b";thread:";
        let Some(at) = rest.windows(MARK.len()).position(|w| w == MARK) else {
            return Some((rest, self.thread));
        };
        let id = &rest[at + MARK.len()..];
        let id = number(id.strip_suffix(b";").unwrap_or(id))?;
        Some((&rest[..at], self.served.thread_of(id)?))
    }

    /// The registers in this debugger's description.
    pub(crate) fn registers(&self) -> &'a [Register] {
        match self.client {
            Client::Gdb => &self.served.gdb,
            Client::Lldb => &self.served.lldb,
        }
    }

    fn all_registers(&self, rest: &[u8]) -> Answer {
        // The answer to `g` cannot mark registers as unknown for lldb, so make it read them one by
        // one.
        if self.client == Client::Lldb {
            return self.error("read registers one by one");
        }
        let Some((b"", thread)) = self.suffix(rest) else {
            return self.error("no such thread");
        };
        let list = self.registers();
        let mut body = Vec::new();
        for (register, value) in list.iter().zip(self.served.values(thread, list)) {
            match value {
                Some(value) => put_register(value, register, &mut body),
                None => body.extend(std::iter::repeat_n(b'x', register.bytes() * 2)),
            }
        }
        body.into()
    }

    fn one_register(&self, rest: &[u8]) -> Answer {
        let Some((wanted, thread)) = self.suffix(rest) else {
            return self.error("no such thread");
        };
        let list = self.registers();
        let at = number(wanted).and_then(|n| usize::try_from(n).ok());
        let Some(register) = at.and_then(|at| list.get(at)) else {
            return self.error("no such register");
        };
        let value = self.served.values(thread, std::slice::from_ref(register));
        match value.first() {
            Some(Some(value)) => {
                let mut body = Vec::new();
                put_register(*value, register, &mut body);
                body.into()
            }
            _ if self.client == Client::Gdb => "x".repeat(register.bytes() * 2).into(),
            _ => self.error("register unknown: the kernel does not save it for this thread"),
        }
    }

    /// Answers `m` and `x` with the bytes up to the first hole. A hole at the start is an error.
    fn read_memory(&self, rest: &[u8], binary: bool) -> Answer {
        let Some((at, len)) = two_numbers(rest, b',') else {
            return self.error("expected ADDRESS,LENGTH");
        };
        if len == 0 {
            return (if binary { "OK" } else { "" }).into();
        }
        // Each byte takes two digits, or up to two bytes if escaped.
        let len = len.min(PACKET_MAX as u64 / 2 - 8) as usize;
        let at = if self.served.machine.word == 4 && !self.physical {
            at & 0xffff_ffff
        } else {
            at
        };
        let mut bytes = vec![0; len];
        let at = memory::address(at, self.physical);
        let (got, _) = self.served.memory.read_part(at, &mut bytes);
        bytes.truncate(got);
        if bytes.is_empty() {
            // EFAULT
            return "E0e".into();
        }
        if binary {
            return bytes.into();
        }
        let mut body = Vec::with_capacity(bytes.len() * 2);
        body.extend(hex(&bytes).into_bytes());
        body.into()
    }

    /// Answers `Hg` and `Hc`; 0 and -1 select any thread.
    fn select(&mut self, rest: &[u8]) -> Answer {
        let Some((what, id)) = rest.split_first() else {
            return self.error("expected a thread");
        };
        let thread = match id {
            b"0" | b"-1" => Some(self.thread),
            id => number(id).and_then(|id| self.served.thread_of(id)),
        };
        match (what, thread) {
            (b'g', Some(thread)) => {
                self.switched |= thread != self.thread;
                self.thread = thread;
                "OK".into()
            }
            (b'c', Some(_)) => "OK".into(),
            _ => self.error("no such thread"),
        }
    }

    /// Answers `Q…`, the settings.
    fn set(&mut self, rest: &[u8]) -> Answer {
        match rest {
            b"StartNoAckMode" => {
                self.acks = false;
                "OK".into()
            }
            b"qemu.PhyMemMode:0" | b"qemu.PhyMemMode:1" => {
                self.physical = rest.ends_with(b"1");
                "OK".into()
            }
            b"ThreadSuffixSupported" | b"ListThreadsInStopReply" => {
                self.client = Client::Lldb;
                "OK".into()
            }
            b"EnableErrorStrings" => {
                self.client = Client::Lldb;
                self.error_texts = true;
                "OK".into()
            }
            _ => "".into(),
        }
    }
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("client", &self.client)
            .field("thread", &self.thread)
            .field("physical", &self.physical)
            .finish_non_exhaustive()
    }
}

/// Appends a value in the target's byte order: all served processors are little-endian.
pub(crate) fn put_register(value: u64, register: &Register, out: &mut Vec<u8>) {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    // Registers have at most 10 bytes.
    out.extend(hex(&bytes[..register.bytes().min(16)]).into_bytes());
}
