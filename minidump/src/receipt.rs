//! What was left out of a dump on request: excluded pages and redacted memory.
//!
//! The attachment of the seal has the totals and the redacted ranges, a list of the seal has the excluded
//! pages ([`livecore_defs::seal::RECORD_EXCLUDED`], [`livecore_defs::seal::RECORD_REDACTED`]).

use std::ops::Range;

use livecore_defs::Field;
use livecore_defs::seal as defs;

use crate::{ByteOrder, Error, PhysAddr};

/// Pages of one class that were excluded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExcludedClass {
    /// The argument of `--exclude`.
    pub name: String,
    /// Number of pages.
    pub pages: u64,
}

/// Contiguous excluded pages of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExcludedRun {
    /// Physical addresses divided by the size of a page.
    pub frames: Range<u64>,
    /// Index of the class.
    pub class: u32,
}

/// The pages that were excluded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excluded {
    /// The classes.
    pub classes: Vec<ExcludedClass>,
    /// The size of a page.
    pub page_size: u32,
    /// The pages, ascending. Empty if a program that does not know the list has dropped it.
    pub runs: Vec<ExcludedRun>,
}

/// Memory that was overwritten with [`defs::REDACTED`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    /// Physical addresses.
    pub range: Range<u64>,
    /// The argument of `--redact`.
    pub name: String,
}

impl Excluded {
    /// Adds the pages of `frames` that are in no class yet to the class `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if there are too many classes, or a run exceeds 2^32 pages.
    pub fn add(&mut self, name: &str, frames: &[Range<u64>]) -> Result<(), Error> {
        let found = self.classes.iter().position(|class| class.name == name);
        let class = found.unwrap_or(self.classes.len());
        if class >= defs::EXCLUDED_CLASSES_MAX || name.len() > defs::RECEIPT_NAME_MAX {
            return Err(Error::Options(format!(
                "more than {} classes of excluded pages, or a name of more than {} bytes",
                defs::EXCLUDED_CLASSES_MAX,
                defs::RECEIPT_NAME_MAX
            )));
        }
        if found.is_none() {
            self.classes.push(ExcludedClass {
                name: name.into(),
                pages: 0,
            });
        }
        for frames in frames {
            if u32::try_from(frames.end - frames.start).is_err() {
                return Err(Error::Options("a run of more than 2^32 pages".into()));
            }
            self.classes[class].pages += frames.end - frames.start;
            self.runs.push(ExcludedRun {
                frames: frames.clone(),
                class: class as u32, // EXCLUDED_CLASSES_MAX at most
            });
        }
        self.runs.sort_by_key(|run| run.frames.start);
        Ok(())
    }

    /// The class of the page at `at`, if it was excluded.
    pub fn class_of(&self, at: PhysAddr) -> Option<&str> {
        let frame = at.0.checked_div(self.page_size.into())?;
        let after = self.runs.partition_point(|run| run.frames.end <= frame);
        let run = self.runs.get(after)?;
        let class = usize::try_from(run.class).ok()?;
        let inside = run.frames.contains(&frame);
        inside.then(|| Some(&*self.classes.get(class)?.name))?
    }

    /// Number of excluded pages.
    pub fn pages(&self) -> u64 {
        let pages = self.classes.iter().map(|class| class.pages);
        pages.fold(0, u64::saturating_add)
    }

    /// Encodes the list of the seal.
    pub fn encode_list(&self) -> Vec<u8> {
        let mut list = Vec::with_capacity(self.runs.len() * defs::EXCLUDED_RUN_LEN);
        for run in &self.runs {
            list.extend(run.frames.start.to_le_bytes());
            let pages = (run.frames.end - run.frames.start) as u32; // as `add` checks
            list.extend(pages.to_le_bytes());
            list.extend(run.class.to_le_bytes());
        }
        list
    }

    /// Encodes the record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((self.runs.len() as u64).to_le_bytes());
        bytes.extend(self.page_size.to_le_bytes());
        bytes.extend((self.classes.len() as u32).to_le_bytes()); // EXCLUDED_CLASSES_MAX at most
        for class in &self.classes {
            bytes.extend(class.pages.to_le_bytes());
            bytes.extend((class.name.len() as u32).to_le_bytes()); // RECEIPT_NAME_MAX at most
            bytes.extend(class.name.as_bytes());
        }
        bytes
    }

    /// Parses the record, without the list.
    pub(crate) fn parse(record: &[u8]) -> Result<Self, Error> {
        let word = |field| field_of(record, field);
        let (page, count) = (
            word(defs::EXCLUDED_PAGE_FIELD)?,
            word(defs::EXCLUDED_CLASSES_FIELD)?,
        );
        if !page.is_power_of_two() || count > defs::EXCLUDED_CLASSES_MAX as u64 {
            let found = format!("{count} classes of pages of {page} bytes");
            return Err(broken(found, "at most 256 classes, and a power of two"));
        }
        let mut rest = record.get(defs::EXCLUDED_LEN..).unwrap_or_default();
        let mut classes = Vec::new();
        for _ in 0..count {
            let pages = uint_at(rest, 0, 8)?;
            let name;
            (name, rest) = name_at(rest, 8)?;
            if name.is_empty() {
                return Err(broken("an empty name".into(), "the name of a class"));
            }
            classes.push(ExcludedClass { name, pages });
        }
        Ok(Self {
            classes,
            page_size: page as u32, // 4 bytes
            runs: Vec::new(),
        })
    }

    /// Parses the list that `record` describes.
    pub(crate) fn read_list(&mut self, record: &[u8], list: &[u8]) -> Result<(), Error> {
        let stated = field_of(record, defs::EXCLUDED_RUNS_FIELD)?;
        let found = (list.len() / defs::EXCLUDED_RUN_LEN) as u64;
        if found != stated || !list.len().is_multiple_of(defs::EXCLUDED_RUN_LEN) {
            let found = format!("a list of {} bytes", list.len());
            return Err(broken(found, format!("{stated} runs of 16 bytes")));
        }
        let mut left: Vec<u64> = self.classes.iter().map(|class| class.pages).collect();
        let mut end = 0;
        // A power of two, as `parse` checks.
        let last = u64::MAX / u64::from(self.page_size);
        let mut runs = Vec::with_capacity(list.len() / defs::EXCLUDED_RUN_LEN);
        for entry in list.chunks_exact(defs::EXCLUDED_RUN_LEN) {
            let start = uint_at(entry, 0, 8)?;
            let pages = uint_at(entry, 8, 4)?;
            let class = uint_at(entry, 12, 4)? as u32; // 4 bytes
            let stop = start.checked_add(pages).filter(|stop| *stop <= last);
            let of_class = usize::try_from(class).ok().and_then(|i| left.get_mut(i));
            let counted = of_class.and_then(|left| {
                *left = left.checked_sub(pages)?;
                Some(())
            });
            let (Some(stop), Some(()), true) = (stop, counted, start >= end && pages > 0) else {
                let found = format!("{pages} pages of class {class} at page {start:#x}");
                return Err(broken(
                    found,
                    "ascending runs of the classes and their pages",
                ));
            };
            end = stop;
            runs.push(ExcludedRun {
                frames: start..stop,
                class,
            });
        }
        if left.iter().any(|left| *left > 0) {
            // At most 2^32 pages for each of the runs.
            let listed: u64 = runs
                .iter()
                .map(|run| run.frames.end - run.frames.start)
                .sum();
            let found = format!("a list of {listed} pages");
            return Err(broken(found, format!("{} excluded pages", self.pages())));
        }
        self.runs = runs;
        Ok(())
    }
}

pub(crate) fn encode_redacted(ranges: &[Redacted]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for redacted in ranges {
        bytes.extend(redacted.range.start.to_le_bytes());
        bytes.extend((redacted.range.end - redacted.range.start).to_le_bytes());
        bytes.extend((redacted.name.len() as u32).to_le_bytes()); // RECEIPT_NAME_MAX at most
        bytes.extend(redacted.name.as_bytes());
    }
    bytes
}

pub(crate) fn parse_redacted(mut rest: &[u8]) -> Result<Vec<Redacted>, Error> {
    let mut ranges: Vec<Redacted> = Vec::new();
    while !rest.is_empty() {
        let start = uint_at(rest, 0, 8)?;
        let len = uint_at(rest, 8, 8)?;
        let name;
        (name, rest) = name_at(rest, 16)?;
        let follows = ranges.last().is_none_or(|last| last.range.end <= start);
        let end = start.checked_add(len).filter(|_| len > 0 && follows);
        let Some(end) = end.filter(|_| ranges.len() < defs::REDACTED_RANGES_MAX) else {
            let found = format!("{len:#x} redacted bytes at {start:#x}");
            return Err(broken(found, "at most 4096 ascending ranges"));
        };
        ranges.push(Redacted {
            range: start..end,
            name,
        });
    }
    Ok(ranges)
}

fn field_of(bytes: &[u8], field: Field) -> Result<u64, Error> {
    uint_at(bytes, field.offset, field.len)
}

fn uint_at(bytes: &[u8], at: usize, len: usize) -> Result<u64, Error> {
    let value = ByteOrder::Little.uint_at(bytes, at, len);
    value.ok_or_else(|| broken(format!("{} bytes", bytes.len()), "a complete record"))
}

/// The name at `at`, after its length, and what follows it.
fn name_at(bytes: &[u8], at: usize) -> Result<(String, &[u8]), Error> {
    let len = uint_at(bytes, at, 4)?;
    let name = usize::try_from(len).ok();
    let name = name.filter(|len| *len <= defs::RECEIPT_NAME_MAX);
    let split = name.and_then(|len| bytes[at + 4..].split_at_checked(len));
    let (name, rest) =
        split.ok_or_else(|| broken(format!("a name of {len} bytes"), "at most 256 bytes"))?;
    let text = std::str::from_utf8(name).ok();
    let text = text.filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or_else(|| {
        let found = livecore_defs::text::escaped(name, defs::RECEIPT_NAME_MAX);
        broken(found, "a name of printable characters")
    })?;
    Ok((text.to_owned(), rest))
}

pub(crate) fn broken(found: String, expected: impl Into<String>) -> Error {
    Error::broken("seal, receipt", 0, found, expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SealRecord;

    fn sealed() -> SealRecord {
        let mut excluded = Excluded {
            page_size: 4096,
            ..Excluded::default()
        };
        excluded.add("free", &[5..8, 20..21]).unwrap();
        excluded
            .add("zone:mbuf", std::slice::from_ref(&(8..10)))
            .unwrap();
        let mut seal = SealRecord::default();
        seal.set_excluded(excluded);
        let name = String::from("secret");
        seal.set_redacted(&[Redacted {
            range: 0x1008..0x1018,
            name,
        }])
        .unwrap();
        seal
    }

    /// The seal as a reader of the file gets it.
    fn reread(seal: &SealRecord, list: Option<&[u8]>) -> Result<SealRecord, Error> {
        let mut read = SealRecord {
            records: seal.records.clone(),
            ..SealRecord::default()
        };
        read.read_excluded(list)?;
        Ok(read)
    }

    #[test]
    fn receipt_is_read_back() {
        let seal = sealed();
        let list = seal.excluded.as_ref().unwrap().encode_list();
        let read = reread(&seal, Some(&list)).unwrap();
        assert_eq!(read, seal);
        let excluded = read.excluded.as_ref().unwrap();
        assert_eq!(excluded.pages(), 6);
        for (at, class) in [
            (0x4fff, None),
            (0x5000, Some("free")),
            (0x7fff, Some("free")),
            (0x8000, Some("zone:mbuf")),
            (0xa000, None),
            (0x14800, Some("free")),
        ] {
            assert_eq!(excluded.class_of(PhysAddr(at)), class, "{at:#x}");
        }
        assert_eq!(read.redacted().unwrap()[0].range, 0x1008..0x1018);
        // A program that does not know the list drops it.
        let dropped = reread(&seal, None).unwrap().excluded.unwrap();
        assert_eq!((dropped.pages(), dropped.runs.len()), (6, 0));
        assert_eq!(dropped.class_of(PhysAddr(0x5000)), None);
    }

    #[test]
    fn lists_that_are_not_those_of_the_record_are_broken() {
        let seal = sealed();
        let list = seal.excluded.as_ref().unwrap().encode_list();
        assert!(reread(&seal, Some(&list[..16])).is_err());
        assert!(reread(&seal, Some(&list[..31])).is_err());
        let reordered = [&list[16..], &list[..16]].concat();
        assert!(reread(&seal, Some(&reordered)).is_err());
        let mut without = seal.clone();
        without.records.clear();
        assert!(reread(&without, Some(&list)).is_err());
    }

    /// The digests of the seal do not protect from a hostile writer.
    #[test]
    fn overlapping_and_huge_runs_are_broken() {
        let run = |start: u64, pages: u32, class: u32| {
            let numbers = [pages.to_le_bytes(), class.to_le_bytes()].concat();
            [start.to_le_bytes().to_vec(), numbers].concat()
        };
        for (runs, pages) in [
            (vec![run(5, 4, 0), run(8, 2, 0)], 6),
            (vec![run(8, 2, 0), run(5, 2, 0)], 4),
            (vec![run(5, 0, 0)], 0),
            (vec![run(5, 2, 1)], 2),
            (vec![run(u64::MAX, 2, 0)], 2),
            (vec![run(u64::MAX >> 12, 2, 0)], 2),
            (vec![run(0, u32::MAX, 0)], 2),
            (vec![run(0, 1, 0)], 2),
            (vec![run(0, 1, 0)], u64::MAX),
        ] {
            let list = runs.concat();
            let mut record = (runs.len() as u64).to_le_bytes().to_vec();
            record.extend([4096_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat());
            record.extend(u64::to_le_bytes(pages));
            record.extend([&4_u32.to_le_bytes()[..], b"free"].concat());
            let mut seal = SealRecord::default();
            seal.set_record(defs::RECORD_EXCLUDED, record);
            assert!(reread(&seal, Some(&list)).is_err(), "{runs:?}");
        }
    }

    /// The sum of their pages is more than 2^64.
    #[test]
    fn classes_with_huge_numbers_of_pages_are_broken() {
        let mut excluded = Excluded {
            page_size: 4096,
            ..Excluded::default()
        };
        for name in ["a", "b", "c"] {
            excluded.add(name, &[]).unwrap();
        }
        excluded.add("a", std::slice::from_ref(&(5..8))).unwrap();
        for class in &mut excluded.classes[1..] {
            class.pages = u64::MAX;
        }
        let mut seal = SealRecord::default();
        let list = excluded.encode_list();
        seal.set_excluded(excluded);
        assert!(reread(&seal, Some(&list)).is_err());
    }

    #[test]
    fn truncated_and_hostile_records_are_broken() {
        let seal = sealed();
        let record = seal.record(defs::RECORD_EXCLUDED).unwrap().to_vec();
        for len in 0..record.len() {
            let mut short = SealRecord::default();
            short.set_record(defs::RECORD_EXCLUDED, record[..len].to_vec());
            assert!(short.read_excluded(None).is_err(), "{len} bytes");
        }
        let redacted = seal.record(defs::RECORD_REDACTED).unwrap().to_vec();
        for len in 1..redacted.len() {
            let mut short = SealRecord::default();
            short.set_record(defs::RECORD_REDACTED, redacted[..len].to_vec());
            assert!(short.redacted().is_err(), "{len} bytes");
        }
        let mut escape = redacted.clone();
        *escape.last_mut().unwrap() = 0x1b;
        let mut hostile = SealRecord::default();
        hostile.set_record(defs::RECORD_REDACTED, escape);
        assert!(hostile.redacted().is_err());
        let mut twice = SealRecord::default();
        twice.set_record(defs::RECORD_REDACTED, redacted.repeat(2));
        assert!(twice.redacted().is_err());
    }
}
