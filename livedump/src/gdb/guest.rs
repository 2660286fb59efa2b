//! A guest that its gdb stub has paused: CPUs, registers and memory.

use std::time::{Duration, Instant};

use livecore_defs::ByteOrder;
use livecore_defs::text::unhex;

use super::client::Client;
use super::error::GdbError;
use super::registers;
use crate::image::{CpuState, Registers};

/// Maximum number of CPUs.
const CPUS_MAX: usize = 1024;

/// Maximum size of a read, in bytes: half of the packets of QEMU and of bhyve.
const READ_MAX: u64 = 2048;

/// A paused guest. [`Guest::detach`] or dropping the value resumes it.
#[derive(Debug)]
pub struct Guest {
    client: Client,
    /// The thread ids of the CPUs. Thread N is CPU N - 1.
    cpus: Vec<u32>,
    /// The CPU whose registers and page tables are used.
    selected: Option<u32>,
    /// The size of a read, in bytes.
    piece: u64,
    /// Whether addresses are physical, if the stub supports that (`qemu.PhyMemMode`).
    physical: Option<bool>,
    since: Instant,
    attached: bool,
}

impl Guest {
    /// The guest of `client`, which the stub has paused when the client connected.
    ///
    /// # Errors
    ///
    /// [`GdbError`] if the stub does not answer, or its answers are not those for a paused guest.
    pub fn attach(client: Client) -> Result<Self, GdbError> {
        // On an error, dropping it resumes the guest.
        let mut guest = Self {
            client,
            cpus: Vec::new(),
            selected: None,
            piece: READ_MAX,
            physical: None,
            since: Instant::now(),
            attached: true,
        };
        let stopped = guest.client.ask("?")?;
        if !matches!(stopped.first(), Some(b'T' | b'S')) {
            return Err(GdbError::protocol("?", &stopped, "a stop reply"));
        }
        let features = guest.client.ask("qSupported")?;
        if let Some(size) = packet_size(&features) {
            // The data is hexadecimal, with `$`, `#` and the sum.
            guest.piece = (size.saturating_sub(4) / 2).clamp(16, READ_MAX);
        }
        // QEMU reads single registers only after the description was requested.
        guest.client.ask("qXfer:features:read:target.xml:0,ffb")?;
        guest.cpus = guest.threads()?;
        let mode = guest.client.ask("qqemu.PhyMemMode")?;
        guest.physical = match &mode[..] {
            b"0" => Some(false),
            b"1" => Some(true),
            _ => None,
        };
        Ok(guest)
    }

    /// The ids of all threads.
    fn threads(&mut self) -> Result<Vec<u32>, GdbError> {
        let mut all = Vec::new();
        let mut packet = "qfThreadInfo";
        loop {
            let answer = self.client.ask(packet)?;
            let ids = match answer.split_first() {
                Some((b'l', [])) if !all.is_empty() => return Ok(all),
                Some((b'm', ids)) => ids,
                _ => return Err(GdbError::protocol(packet, &answer, "`m` and thread ids")),
            };
            for id in ids.split(|byte| *byte == b',') {
                let id = std::str::from_utf8(id).ok();
                let id = id.and_then(|id| u32::from_str_radix(id, 16).ok());
                match id.filter(|id| *id > 0 && !all.contains(id)) {
                    Some(id) if all.len() < CPUS_MAX => all.push(id),
                    _ => {
                        let expected = format!("at most {CPUS_MAX} different thread ids above 0");
                        return Err(GdbError::protocol(packet, &answer, expected));
                    }
                }
            }
            packet = "qsThreadInfo";
        }
    }

    /// The numbers of the CPUs, from 0.
    pub fn cpus(&self) -> Vec<u32> {
        self.cpus.iter().map(|id| id - 1).collect()
    }

    /// Whether the stub reads physical memory.
    pub fn reads_physical(&self) -> bool {
        self.physical.is_some()
    }

    /// Uses the registers and the page tables of CPU `number` from now on.
    ///
    /// # Errors
    ///
    /// [`GdbError`] if the stub refuses it.
    pub fn select(&mut self, number: u32) -> Result<(), GdbError> {
        if self.selected != Some(number) {
            self.require_ok(&format!("Hg{:x}", number + 1))?;
            self.selected = Some(number);
        }
        Ok(())
    }

    /// The registers of all CPUs. The CPU that was selected remains selected.
    ///
    /// # Errors
    ///
    /// [`GdbError`] if the stub does not answer.
    pub fn registers(&mut self) -> Result<Vec<CpuState>, GdbError> {
        let selected = self.selected;
        let mut all = Vec::new();
        for number in self.cpus() {
            self.select(number)?;
            let answer = self.client.ask("g")?;
            let mut more = Vec::new();
            for register in registers::MORE {
                let value = self.client.ask(&format!("p{register:x}"))?;
                // Without the register, the answer is empty or an error.
                more.push(unhex(&value).and_then(|bytes| ByteOrder::Little.uint(&bytes)));
            }
            let found = unhex(&answer).and_then(|bytes| registers::parse(&bytes, &more));
            let found = found.map_or(Registers::Unknown, Registers::X86);
            all.push(CpuState::new(number, found));
        }
        if let Some(number) = selected {
            self.select(number)?;
        }
        Ok(all)
    }

    /// Reads memory into `buf`, up to the first address that the stub does not read. Returns the number of bytes.
    /// The address is physical if `physical`, and otherwise virtual.
    ///
    /// # Errors
    ///
    /// [`GdbError`] if the stub does not answer, or does not read physical memory.
    pub fn read(&mut self, physical: bool, at: u64, buf: &mut [u8]) -> Result<usize, GdbError> {
        self.set_physical(physical)?;
        let mut done = 0;
        while done < buf.len() {
            let Some(at) = at.checked_add(done as u64) else {
                break;
            };
            let len = (buf.len() - done).min(self.piece as usize);
            let packet = format!("m{at:x},{len:x}");
            let answer = self.client.ask(&packet)?;
            // `E` and two digits: an address that is not mapped.
            if answer.first() == Some(&b'E') && answer.len() == 3 {
                break;
            }
            let bytes = unhex(&answer);
            match bytes.filter(|bytes| (1..=len).contains(&bytes.len())) {
                Some(bytes) => {
                    buf[done..done + bytes.len()].copy_from_slice(&bytes);
                    done += bytes.len();
                }
                None => {
                    let expected = format!("1 to {len} bytes");
                    return Err(GdbError::protocol(&packet, &answer, expected));
                }
            }
        }
        Ok(done)
    }

    fn set_physical(&mut self, physical: bool) -> Result<(), GdbError> {
        if self.physical.unwrap_or(false) != physical {
            self.require_ok(&format!("Qqemu.PhyMemMode:{}", u8::from(physical)))?;
            self.physical = Some(physical);
        }
        Ok(())
    }

    fn require_ok(&mut self, packet: &str) -> Result<(), GdbError> {
        refusal(packet, &self.client.ask(packet)?)
    }

    /// Detaches, which resumes the guest. Returns the duration of the pause.
    ///
    /// # Errors
    ///
    /// [`GdbError`] if the stub does not answer.
    pub fn detach(&mut self) -> Result<Duration, GdbError> {
        if !self.attached {
            return Ok(Duration::ZERO);
        }
        self.attached = false;
        if self.physical == Some(true) {
            // QEMU keeps the mode for the next client.
            let _ = self.client.ask_always("Qqemu.PhyMemMode:0");
        }
        refusal("D", &self.client.ask_always("D")?)?;
        let paused = self.since.elapsed();
        // bhyve resumes the guest when the connection ends.
        self.client.close();
        Ok(paused)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Callers that need the error call `detach`.
        let _ = self.detach();
    }
}

fn refusal(packet: &str, answer: &[u8]) -> Result<(), GdbError> {
    let why = match answer {
        b"OK" => return Ok(()),
        b"" => "unknown packet".into(),
        other => String::from_utf8_lossy(&other[..other.len().min(80)]).into_owned(),
    };
    Err(GdbError::Refused {
        packet: packet.into(),
        why: why.escape_debug().to_string(),
    })
}

/// `PacketSize` of the answer to `qSupported`.
fn packet_size(features: &[u8]) -> Option<u64> {
    let features = std::str::from_utf8(features).ok()?;
    let mut features = features.split(';');
    let size = features.find_map(|feature| feature.strip_prefix("PacketSize="))?;
    u64::from_str_radix(size, 16).ok()
}
