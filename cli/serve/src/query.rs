//! `q…` packets of both debuggers, and those of lldb alone.

use livecore_defs::text::{hex, unhex};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::memory;
use super::packet::{PACKET_MAX, number};
use super::session::{Answer, Client, Session, put_register};

/// The most threads whose registers lldb gets without asking.
const EXPEDITED_THREADS: usize = 500;

/// The answer to `qSupported`.
const SUPPORTED: &str = "QStartNoAckMode+;qXfer:features:read+;qXfer:memory-map:read+;\
                         qXfer:libraries:read+;qXfer:exec-file:read+;qXfer:threads:read+;\
                         vContSupported-;swbreak-;hwbreak-";

impl Session<'_> {
    pub(crate) fn query(&mut self, rest: &[u8]) -> Answer {
        let (name, argument) = match rest.iter().position(|b| matches!(b, b':' | b',')) {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &b""[..]),
        };
        match name {
            b"Supported" => {
                let text = String::from_utf8_lossy(argument);
                if text.contains("xmlRegisters=i386,arm") {
                    self.client = Client::Lldb;
                }
                format!("PacketSize={PACKET_MAX:x};{SUPPORTED}").into()
            }
            b"C" => match self.served.threads.get(self.thread) {
                Some(entry) => format!("QC{:x}", entry.id).into(),
                None => "".into(),
            },
            // The target existed before the debugger, so detaching does not end it.
            b"Attached" => "1".into(),
            b"fThreadInfo" => {
                self.listing = 0;
                self.next_threads()
            }
            b"sThreadInfo" => self.next_threads(),
            b"ThreadExtraInfo" => {
                let thread = number(argument).and_then(|id| self.served.thread_of(id));
                match thread.and_then(|at| self.served.threads.get(at)) {
                    Some(entry) => hex(entry.title.as_bytes()).into(),
                    None => self.error("no such thread"),
                }
            }
            b"Xfer" => self.object(argument),
            b"Rcmd" => match unhex(argument) {
                Some(line) => self.monitor(&String::from_utf8_lossy(&line)),
                None => self.error("expected a command in hexadecimal digits"),
            },
            // The served kernels run at their link address.
            b"Offsets" => "Text=0;Data=0;Bss=0".into(),
            b"Symbol" => "OK".into(),
            b"qemu.PhyMemMode" => (if self.physical { "1" } else { "0" }).into(),
            b"qemu.Supported" => "PhyMemMode".into(),
            b"MemoryRegionInfo" => match number(argument) {
                Some(at) => self.region(at),
                None => self.error("expected an address"),
            },
            b"HostInfo" => {
                self.client = Client::Lldb;
                self.host().into()
            }
            b"ProcessInfo" => {
                self.client = Client::Lldb;
                format!("pid:1;{}", self.host()).into()
            }
            _ => self.query_with_number(name),
        }
    }

    /// Answers packets whose argument follows their name without a separator.
    fn query_with_number(&mut self, name: &[u8]) -> Answer {
        if let Some(id) = name.strip_prefix(b"ThreadStopInfo") {
            self.client = Client::Lldb;
            return match number(id).and_then(|id| self.served.thread_of(id)) {
                Some(thread) => self.thread_stop(thread).into(),
                None => self.error("no such thread"),
            };
        }
        if let Some(at) = name.strip_prefix(b"RegisterInfo") {
            self.client = Client::Lldb;
            return match number(at).and_then(|n| self.register_info(n)) {
                Some(info) => info.into(),
                // The end of the list.
                None => "E45".into(),
            };
        }
        "".into()
    }

    /// The next thread ids that fit in a packet.
    fn next_threads(&mut self) -> Answer {
        let mut body = String::new();
        while let Some(entry) = self.served.threads.get(self.listing) {
            if body.len() + 18 > PACKET_MAX / 2 {
                break;
            }
            body.push(if body.is_empty() { 'm' } else { ',' });
            // Writing to a string does not fail.
            let _ = write!(body, "{:x}", entry.id);
            self.listing += 1;
        }
        if body.is_empty() {
            "l".into()
        } else {
            body.into()
        }
    }

    /// lldb's stop reply for a thread that is not selected.
    fn thread_stop(&self, thread: usize) -> String {
        let Some(entry) = self.served.threads.get(thread) else {
            return String::new();
        };
        let name = hex(entry.title.as_bytes());
        let (signal, reason) = if entry.crashed() {
            ("05", self.reason(thread))
        } else {
            ("00", "reason:none;".to_owned())
        };
        format!("T{signal}thread:{:x};hexname:{name};{reason}", entry.id)
    }

    /// All threads as JSON, with the registers that a backtrace needs first.
    pub(crate) fn threads_json(&self) -> String {
        let list = self.registers();
        let few = self.served.threads.len() <= EXPEDITED_THREADS;
        let threads: Vec<Value> = (0..self.served.threads.len())
            .map(|thread| {
                // The index is below the length.
                let entry = &self.served.threads[thread];
                let mut object = json!({ "tid": entry.id, "name": entry.title });
                match self.crash(thread) {
                    Some(why) => {
                        object["reason"] = "exception".into();
                        object["description"] = why.into();
                        object["signal"] = 5.into();
                    }
                    None => object["reason"] = "none".into(),
                }
                if few {
                    let mut registers = serde_json::Map::new();
                    let values = self.served.values(thread, list);
                    for (number, (register, value)) in list.iter().zip(values).enumerate() {
                        if let Some(value) = value.filter(|_| register.generic.is_some()) {
                            let mut text = Vec::new();
                            put_register(value, register, &mut text);
                            let text = String::from_utf8_lossy(&text).into_owned();
                            registers.insert(number.to_string(), text.into());
                        }
                    }
                    object["registers"] = registers.into();
                }
                object
            })
            .collect();
        Value::from(threads).to_string()
    }

    /// Answers lldb's request for a memory region. lldb treats unreadable memory as the end of a
    /// stack. No address of a dump is known to be unreadable, only missing in the dump, so the
    /// answer is an error.
    fn region(&self, at: u64) -> Answer {
        let (memory, regions) = (&*self.served.memory, &self.served.regions);
        let region = memory::region(memory, regions, at, self.physical);
        let Some(permissions) = region.permissions else {
            return self.error("this address is not in the dump");
        };
        // An end of 0 is the end of the address space; its size 2^64 does not fit.
        let size = match region.end.wrapping_sub(region.start) {
            0 => u64::MAX,
            size => size,
        };
        let mut body = format!("start:{:x};size:{size:x};permissions:r", region.start);
        body += if permissions.write { "w" } else { "" };
        body += if permissions.execute { "x" } else { "" };
        body += ";";
        body.into()
    }

    fn host(&self) -> String {
        let machine = &self.served.machine;
        format!(
            "triple:{};endian:little;ptrsize:{};ostype:freebsd;vendor:unknown;",
            hex(machine.names.triple.as_bytes()),
            machine.word
        )
    }

    fn register_info(&self, at: u64) -> Option<String> {
        let list = self.registers();
        let at = usize::try_from(at).ok()?;
        let register = list.get(at)?;
        let offset: usize = list[..at].iter().map(|r| r.bytes()).sum();
        let mut body = format!(
            "name:{};bitsize:{};offset:{offset};encoding:uint;format:hex;set:general;",
            register.name, register.bits
        );
        if let Some(dwarf) = register.dwarf {
            let _ = write!(body, "gcc:{dwarf};dwarf:{dwarf};");
        }
        if let Some(generic) = register.generic {
            let _ = write!(body, "generic:{generic};");
        }
        Some(body)
    }
}
