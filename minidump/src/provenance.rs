//! What a producer outside of the kernel did to a dump, or could not help: the records of it in a
//! seal, and the lines of it in `info.N`.

use byteorder::{ByteOrder as _, LittleEndian};

use crate::SealRecord;
use crate::defs::Field;
use crate::defs::seal as defs;

/// What changed while a dump was being taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Torn {
    /// Pages that were watched: all of the dump.
    pub pages: u64,
    /// Pages whose bytes may be of another instant than the rest.
    pub torn: u64,
    /// Pages that changed before they were written, and were read again.
    pub again: u64,
    /// Rounds of reading again.
    pub rounds: u32,
    /// When the first page was read, nanoseconds since 1970.
    pub start: u64,
    /// When the last one was.
    pub end: u64,
}

impl Torn {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; defs::TORN_LEN];
        let mut put = |field: Field, value: u64| {
            let value = value.to_le_bytes();
            bytes[field.offset..field.offset + field.len].copy_from_slice(&value[..field.len]);
        };
        put(defs::TORN_PAGES_FIELD, self.pages);
        put(defs::TORN_TORN_FIELD, self.torn);
        put(defs::TORN_AGAIN_FIELD, self.again);
        put(defs::TORN_ROUNDS_FIELD, self.rounds.into());
        put(defs::TORN_START_FIELD, self.start);
        put(defs::TORN_END_FIELD, self.end);
        bytes
    }

    /// Reads a record; `None` if it is too short. What newer producers add behind is ignored.
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

/// Where a processor's registers were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuPlace {
    /// Nowhere: the kernel has no room for them.
    Nowhere,
    /// `dumppcb`: its thread counts as the one that dumped.
    Dumppcb,
    /// `stoppcbs`: it counts as stopped.
    Stoppcbs,
}

impl CpuPlace {
    /// The variable, or `nowhere`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::Dumppcb => "dumppcb",
            Self::Stoppcbs => "stoppcbs",
        }
    }
}

/// A processor whose registers a producer had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Its number in the image.
    pub number: u32,
    /// The kernel's number of it (`pc_cpuid`), if known.
    pub cpuid: Option<u32>,
    /// `td_tid` of the thread on it, if known.
    pub tid: Option<i32>,
    /// Where its registers are.
    pub place: CpuPlace,
}

/// What a producer did and could not help.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// What changed meanwhile, if that was watched.
    pub torn: Option<Torn>,
    /// Whose registers were put into the dump.
    pub cpus: Vec<Cpu>,
}

impl Provenance {
    /// The records of a seal.
    pub fn records(&self) -> Vec<(u32, Vec<u8>)> {
        let mut records = Vec::new();
        if let Some(torn) = &self.torn {
            records.push((defs::RECORD_TORN, torn.encode()));
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

    /// What a seal says. A record that cannot be read is as good as none.
    pub fn of(seal: &SealRecord) -> Self {
        let cpus = seal.record(defs::RECORD_CPUS).unwrap_or_default();
        let (cpus, _) = cpus.as_chunks::<{ defs::CPU_LEN }>();
        Self {
            torn: seal.record(defs::RECORD_TORN).and_then(Torn::parse),
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

    /// Lines for the end of `info.N`, in its form: savecore(8) writes none of them.
    pub fn info_lines(&self) -> String {
        let mut text = String::new();
        if let Some(torn) = &self.torn {
            text += &format!("  Torn Pages: {} of {}\n", torn.torn, torn.pages);
            text += &format!(
                "  Pages Read Again: {} in {} rounds\n",
                torn.again, torn.rounds
            );
            let (start, end) = (torn.start, torn.end);
            let at = |ns: u64| format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
            text += &format!(
                "  Time Window: {} to {} ({:.3} s)\n",
                at(start),
                at(end),
                torn.seconds()
            );
        }
        if !self.cpus.is_empty() {
            let each = self.cpus.iter().map(|cpu| {
                let tid = cpu.tid.map_or("?".into(), |tid| tid.to_string());
                format!("{} in {} (tid {tid})", cpu.number, cpu.place.name())
            });
            let each = each.collect::<Vec<_>>().join(", ");
            text += &format!("  CPU State: put in by livecore: {each}\n");
        }
        text
    }
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
    fn what_a_seal_is_told_it_tells() {
        let mut seal = SealRecord::default();
        seal.records.extend(sample().records());
        assert_eq!(seal.records[0].1.len(), 48);
        assert_eq!(seal.records[1].1.len(), 32);
        assert_eq!(Provenance::of(&seal), sample());
        assert_eq!(
            Provenance::of(&SealRecord::default()),
            Provenance::default()
        );
        seal.records[0].1.pop();
        assert_eq!(Provenance::of(&seal).torn, None);
    }

    #[test]
    fn info_says_it_in_lines_of_its_own_form() {
        assert_eq!(
            sample().info_lines(),
            "  Torn Pages: 3 of 18716\n  \
               Pages Read Again: 50 in 2 rounds\n  \
               Time Window: 1700000000.500000000 to 1700000001.750000000 (1.250 s)\n  \
               CPU State: put in by livecore: 0 in dumppcb (tid 100003), 1 in nowhere (tid ?)\n"
        );
        assert_eq!(Provenance::default().info_lines(), "");
    }
}
