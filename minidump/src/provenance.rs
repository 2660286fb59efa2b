//! How a producer outside the kernel took a dump: records in the seal and lines in `info.N`.

use byteorder::{ByteOrder as _, LittleEndian};

use crate::SealRecord;
use livecore_defs::Field;
use livecore_defs::seal as defs;

/// Encodes a record of `len` bytes with the given field values.
fn record(len: usize, fields: &[(Field, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (field, value) in fields {
        let value = value.to_le_bytes();
        bytes[field.offset..field.offset + field.len].copy_from_slice(&value[..field.len]);
    }
    bytes
}

/// Pages that changed while a dump was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Torn {
    /// Number of pages in the dump, all of which were checked.
    pub pages: u64,
    /// Number of pages that may be inconsistent with the rest of the dump.
    pub torn: u64,
    /// Number of pages that changed before they were written, and were read again.
    pub again: u64,
    /// Number of passes over changed pages.
    pub rounds: u32,
    /// Time at which the first page was read, in nanoseconds since 1970.
    pub start: u64,
    /// Time at which the last page was read.
    pub end: u64,
}

impl Torn {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        record(
            defs::TORN_LEN,
            &[
                (defs::TORN_PAGES_FIELD, self.pages),
                (defs::TORN_TORN_FIELD, self.torn),
                (defs::TORN_AGAIN_FIELD, self.again),
                (defs::TORN_ROUNDS_FIELD, self.rounds.into()),
                (defs::TORN_START_FIELD, self.start),
                (defs::TORN_END_FIELD, self.end),
            ],
        )
    }

    /// Parses a record; `None` if it is too short. Ignores fields appended by newer producers.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..defs::TORN_LEN)?;
        let get = |field: Field| LittleEndian::read_uint(&bytes[field.offset..], field.len);
        Some(Self {
            pages: get(defs::TORN_PAGES_FIELD),
            torn: get(defs::TORN_TORN_FIELD),
            again: get(defs::TORN_AGAIN_FIELD),
            rounds: get(defs::TORN_ROUNDS_FIELD) as u32, // 4 bytes
            start: get(defs::TORN_START_FIELD),
            end: get(defs::TORN_END_FIELD),
        })
    }

    /// Seconds between the first page and the last.
    pub fn seconds(&self) -> f64 {
        self.end.saturating_sub(self.start) as f64 / 1e9
    }
}

/// How the dump became a consistent snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseHow {
    /// The guest was already paused and stayed paused.
    Found,
    /// Pages were copied while the guest ran, and compared while it was paused.
    Compared,
    /// All memory was read while the guest was paused.
    Read,
    /// The hypervisor stopped the guest, wrote its memory and resumed it.
    Hypervisor,
    /// A value of a newer producer.
    Unknown(u32),
}

impl PauseHow {
    /// The name of the value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Compared => "compared",
            Self::Read => "read",
            Self::Hypervisor => "hypervisor",
            Self::Unknown(_) => "unknown",
        }
    }

    fn number(self) -> u32 {
        match self {
            Self::Found => 0,
            Self::Compared => 1,
            Self::Read => 2,
            Self::Hypervisor => 3,
            Self::Unknown(number) => number,
        }
    }

    fn of(number: u32) -> Self {
        match number {
            0 => Self::Found,
            1 => Self::Compared,
            2 => Self::Read,
            3 => Self::Hypervisor,
            number => Self::Unknown(number),
        }
    }
}

/// The pause of a guest for its dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Kind of the pause.
    pub how: PauseHow,
    /// Time at which the guest was paused, or found paused, in nanoseconds since 1970.
    pub start: u64,
    /// Duration in nanoseconds; 0 if the guest was left paused.
    pub length: u64,
    /// Number of copied pages of 4 KiB that were compared during the pause.
    pub compared: u64,
    /// Number of compared pages that had changed and were copied again.
    pub changed: u64,
    /// Number of pages copied for the first time during the pause.
    pub new: u64,
}

impl Pause {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        record(
            defs::PAUSE_LEN,
            &[
                (defs::PAUSE_HOW_FIELD, self.how.number().into()),
                (defs::PAUSE_START_FIELD, self.start),
                (defs::PAUSE_LENGTH_FIELD, self.length),
                (defs::PAUSE_COMPARED_FIELD, self.compared),
                (defs::PAUSE_CHANGED_FIELD, self.changed),
                (defs::PAUSE_NEW_FIELD, self.new),
            ],
        )
    }

    /// Parses a record; `None` if it is too short. Ignores fields appended by newer producers.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..defs::PAUSE_LEN)?;
        let get = |field: Field| LittleEndian::read_uint(&bytes[field.offset..], field.len);
        Some(Self {
            how: PauseHow::of(get(defs::PAUSE_HOW_FIELD) as u32), // 4 bytes
            start: get(defs::PAUSE_START_FIELD),
            length: get(defs::PAUSE_LENGTH_FIELD),
            compared: get(defs::PAUSE_COMPARED_FIELD),
            changed: get(defs::PAUSE_CHANGED_FIELD),
            new: get(defs::PAUSE_NEW_FIELD),
        })
    }

    /// Duration of the pause in seconds.
    pub fn seconds(&self) -> f64 {
        self.length as f64 / 1e9
    }

    /// A description of the pause.
    pub fn sentence(&self) -> String {
        let seconds = self.seconds();
        match self.how {
            PauseHow::Found => "the guest was already paused and stayed paused".into(),
            PauseHow::Compared => {
                format!("copied while it ran, then paused for {seconds:.3} s to compare pages")
            }
            PauseHow::Read => format!("paused for {seconds:.3} s while it was read"),
            PauseHow::Hypervisor => {
                format!("stopped for {seconds:.3} s while the hypervisor wrote its memory")
            }
            PauseHow::Unknown(_) => format!("paused for {seconds:.3} s"),
        }
    }
}

/// The variable to which the registers of a CPU were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuPlace {
    /// None: the kernel has no variable for them.
    Nowhere,
    /// `dumppcb`: debuggers show its thread as the one that dumped.
    Dumppcb,
    /// `stoppcbs`: debuggers show the CPU as stopped.
    Stoppcbs,
}

impl CpuPlace {
    /// The name of the variable, or `nowhere`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::Dumppcb => "dumppcb",
            Self::Stoppcbs => "stoppcbs",
        }
    }
}

/// A CPU whose registers are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Number of the CPU in the image.
    pub number: u32,
    /// Number of the CPU in the kernel (`pc_cpuid`), if known.
    pub cpuid: Option<u32>,
    /// `td_tid` of its current thread, if known.
    pub tid: Option<i32>,
    /// Variable with its registers.
    pub place: CpuPlace,
}

/// How a producer took a dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Pages that changed during the dump, if they were counted.
    pub torn: Option<Torn>,
    /// The pause of the guest, if it was paused.
    pub pause: Option<Pause>,
    /// CPUs whose registers were written into the dump.
    pub cpus: Vec<Cpu>,
}

impl Provenance {
    /// Encodes the records for a seal.
    pub fn records(&self) -> Vec<(u32, Vec<u8>)> {
        let mut records = Vec::new();
        if let Some(torn) = &self.torn {
            records.push((defs::RECORD_TORN, torn.encode()));
        }
        if let Some(pause) = &self.pause {
            records.push((defs::RECORD_PAUSE, pause.encode()));
        }
        if !self.cpus.is_empty() {
            let words = self.cpus.iter().flat_map(|cpu| {
                let place = match cpu.place {
                    CpuPlace::Nowhere => 0,
                    CpuPlace::Dumppcb => 1,
                    CpuPlace::Stoppcbs => 2,
                };
                let tid = cpu.tid.unwrap_or(0).cast_unsigned();
                [cpu.number, cpu.cpuid.unwrap_or(u32::MAX), tid, place]
            });
            let bytes = words.flat_map(u32::to_le_bytes).collect();
            records.push((defs::RECORD_CPUS, bytes));
        }
        records
    }

    /// Reads the records of a seal. Ignores records that cannot be parsed.
    pub fn of(seal: &SealRecord) -> Self {
        let cpus = seal.record(defs::RECORD_CPUS).unwrap_or_default();
        let (cpus, _) = cpus.as_chunks::<{ defs::CPU_LEN }>();
        Self {
            torn: seal.record(defs::RECORD_TORN).and_then(Torn::parse),
            pause: seal.record(defs::RECORD_PAUSE).and_then(Pause::parse),
            cpus: cpus
                .iter()
                .map(|bytes| {
                    let word = |i: usize| LittleEndian::read_u32(&bytes[4 * i..]);
                    Cpu {
                        number: word(0),
                        cpuid: Some(word(1)).filter(|id| *id != u32::MAX),
                        tid: Some(word(2).cast_signed()).filter(|tid| *tid != 0),
                        place: match word(3) {
                            1 => CpuPlace::Dumppcb,
                            2 => CpuPlace::Stoppcbs,
                            _ => CpuPlace::Nowhere,
                        },
                    }
                })
                .collect(),
        }
    }

    /// Formats lines to append to `info.N`. They are extensions: savecore(8) does not write them.
    pub fn info_lines(&self) -> String {
        let mut text = String::new();
        if let Some(torn) = &self.torn {
            text += &format!("  Torn Pages: {} of {}\n", torn.torn, torn.pages);
            text += &format!(
                "  Pages Read Again: {} in {} rounds\n",
                torn.again, torn.rounds
            );
            text += &format!(
                "  Time Window: {} to {} ({:.3} s)\n",
                instant(torn.start),
                instant(torn.end),
                torn.seconds()
            );
        }
        if let Some(pause) = &self.pause {
            let (at, how) = (instant(pause.start), pause.sentence());
            text += &format!("  Guest Pause: at {at}, {how}\n");
            if pause.how == PauseHow::Compared {
                text += &format!(
                    "  Pages Changed: {} of {} since they were copied, {} new\n",
                    pause.changed, pause.compared, pause.new
                );
            }
        }
        if !self.cpus.is_empty() {
            let each = self.cpus.iter().map(|cpu| {
                let tid = cpu.tid.map_or("?".into(), |tid| tid.to_string());
                format!("{} in {} (tid {tid})", cpu.number, cpu.place.name())
            });
            let each = each.collect::<Vec<_>>().join(", ");
            text += &format!("  CPU State: written by livecore: {each}\n");
        }
        text
    }
}

/// Formats nanoseconds since 1970 as seconds.
fn instant(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Provenance {
        Provenance {
            torn: Some(Torn {
                pages: 18_716,
                torn: 3,
                again: 50,
                rounds: 2,
                start: 1_700_000_000_500_000_000,
                end: 1_700_000_001_750_000_000,
            }),
            pause: Some(Pause {
                how: PauseHow::Compared,
                start: 1_700_000_001_000_000_000,
                length: 125_000_000,
                compared: 18_700,
                changed: 12,
                new: 16,
            }),
            cpus: vec![
                Cpu {
                    number: 0,
                    cpuid: Some(0),
                    tid: Some(100_003),
                    place: CpuPlace::Dumppcb,
                },
                Cpu {
                    number: 1,
                    cpuid: None,
                    tid: None,
                    place: CpuPlace::Nowhere,
                },
            ],
        }
    }

    #[test]
    fn provenance_survives_a_seal() {
        let mut seal = SealRecord::default();
        seal.records.extend(sample().records());
        assert_eq!(seal.records[0].1.len(), 48);
        assert_eq!(seal.records[1].1.len(), 48);
        assert_eq!(seal.records[2].1.len(), 32);
        assert_eq!(Provenance::of(&seal), sample());
        assert_eq!(
            Provenance::of(&SealRecord::default()),
            Provenance::default()
        );
        seal.records[0].1.pop();
        seal.records[1].1.pop();
        assert_eq!(Provenance::of(&seal).torn, None);
        assert_eq!(Provenance::of(&seal).pause, None);
    }

    #[test]
    fn unknown_kinds_of_pause_are_preserved() {
        let pause = sample().pause.unwrap();
        for number in 0..6 {
            let mut bytes = pause.encode();
            bytes[0] = number;
            // A newer producer may append fields.
            bytes.extend([9; 8]);
            let read = Pause::parse(&bytes).unwrap();
            assert_eq!(read.encode(), bytes[..48], "{number}");
            assert!(!read.sentence().is_empty());
            assert_eq!(read.how.name() == "unknown", number > 3);
        }
    }

    #[test]
    fn info_lines_have_the_format_of_info_files() {
        assert_eq!(
            sample().info_lines(),
            "  Torn Pages: 3 of 18716\n  \
               Pages Read Again: 50 in 2 rounds\n  \
               Time Window: 1700000000.500000000 to 1700000001.750000000 (1.250 s)\n  \
               Guest Pause: at 1700000001.000000000, copied while it ran, then paused for 0.125 s to \
               compare pages\n  \
               Pages Changed: 12 of 18700 since they were copied, 16 new\n  \
               CPU State: written by livecore: 0 in dumppcb (tid 100003), 1 in nowhere (tid ?)\n"
        );
        assert_eq!(Provenance::default().info_lines(), "");
    }
}
