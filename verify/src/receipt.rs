//! The receipt in the seal: pages and memory that `convert --exclude` and `--redact` left out.

use livecore_defs::seal as attachment;

use crate::avail::Avail;
use crate::bits::Bits;
use crate::finding::{Location, Sink};
use crate::input::{count, little, number, quoted};
use crate::records::of_kind;
use crate::rules;

/// Maximum number of runs of excluded pages.
const RUNS: usize = 1 << 22;

/// The receipt.
#[derive(Debug, Default)]
pub(crate) struct Receipt {
    /// Whether pages were excluded.
    pub(crate) excludes: bool,
    /// The name and the number of pages of each class.
    classes: Vec<(Vec<u8>, u64)>,
    page: u64,
    stated: u64,
    /// First frame number, number of pages and class of each run, in the order of the list.
    runs: Vec<[u64; 3]>,
}

impl Receipt {
    /// Checks the receipt in `records`, whose lengths must have been checked.
    pub(crate) fn parse(records: &[u8], place: &Location<'_>, sink: &mut Sink) -> Self {
        let mut receipt = Self::default();
        for record in of_kind(records, attachment::RECORD_EXCLUDED) {
            let sound = receipt.excluded(record);
            let twice = std::mem::replace(&mut receipt.excludes, true);
            sink.check(&rules::SEAL_RECORDS, sound && !twice, place, |f| {
                f.found(format!(
                    "a record of excluded pages of {} bytes",
                    record.len()
                ))
                .expected("one record, with the classes that it counts")
            });
        }
        let what: Vec<String> = (receipt.classes.iter())
            .map(|(name, pages)| format!("{pages} {}", quoted(name)))
            .collect();
        let pages = receipt.pages();
        sink.check(&rules::SEAL_EXCLUDED, !receipt.excludes, place, |f| {
            f.found(format!(
                "{}: {}",
                count(pages, "excluded page"),
                what.join(", ")
            ))
            .expected("no excluded pages")
        });
        for record in of_kind(records, attachment::RECORD_REDACTED) {
            let redacted = redacted(record);
            sink.check(&rules::SEAL_RECORDS, redacted.is_some(), place, |f| {
                f.found(format!(
                    "a record of redacted memory of {} bytes",
                    record.len()
                ))
                .expected("ranges that ascend and do not overlap")
            });
            let (ranges, bytes) = redacted.unwrap_or_default();
            sink.check(&rules::SEAL_REDACTED, ranges == 0, place, |f| {
                let (bytes, ranges) = (count(bytes, "redacted byte"), count(ranges, "range"));
                f.found(format!("{bytes} in {ranges}"))
                    .expected("no redacted memory")
            });
        }
        receipt
    }

    /// Reads a record of excluded pages. Returns whether it is valid.
    fn excluded(&mut self, record: &[u8]) -> bool {
        if record.len() < attachment::EXCLUDED_LEN {
            return false;
        }
        self.stated = little(record, attachment::EXCLUDED_RUNS_FIELD);
        self.page = little(record, attachment::EXCLUDED_PAGE_FIELD);
        let count = little(record, attachment::EXCLUDED_CLASSES_FIELD);
        if !self.page.is_power_of_two() || count > attachment::EXCLUDED_CLASSES_MAX as u64 {
            return false;
        }
        let mut rest = &record[attachment::EXCLUDED_LEN..];
        for _ in 0..count {
            let Some((head, after)) = rest.split_at_checked(12) else {
                return false;
            };
            let len = number(head, 8, 4) as usize;
            let name = after.split_at_checked(len);
            let Some((name, after)) = name.filter(|(name, _)| !name.is_empty() && is_name(name))
            else {
                return false;
            };
            self.classes.push((name.to_vec(), number(head, 0, 8)));
            rest = after;
        }
        true
    }

    /// Number of excluded pages.
    fn pages(&self) -> u64 {
        let pages = self.classes.iter().map(|(_, pages)| *pages);
        pages.fold(0, u64::saturating_add)
    }

    /// Sets the list of excluded pages, from the parts of the seal.
    pub(crate) fn set_runs(&mut self, runs: Vec<[u64; 3]>, place: &Location<'_>, sink: &mut Sink) {
        self.runs = runs;
        // A program that does not know the list drops it.
        if self.runs.is_empty() {
            return;
        }
        let stated = self.runs.len() as u64 == self.stated && self.excludes;
        let mut counts = vec![0_u64; self.classes.len()];
        let mut end = 0;
        let sound = self.runs.iter().all(|[start, pages, class]| {
            let of_class = usize::try_from(*class).ok();
            let count = of_class.and_then(|class| counts.get_mut(class));
            let stop = start.checked_add(*pages);
            let last = u64::MAX.checked_div(self.page).unwrap_or(0);
            let (Some(count), Some(stop)) = (count, stop.filter(|stop| *stop <= last)) else {
                return false;
            };
            *count = count.saturating_add(*pages);
            *pages > 0 && *start >= std::mem::replace(&mut end, stop)
        });
        let counted = self.classes.iter().map(|(_, pages)| *pages).eq(counts);
        let fits = stated && sound && counted;
        sink.check(&rules::SEAL_RECORDS, fits, place, |f| {
            f.found(format!(
                "a list of {} runs of excluded pages",
                self.runs.len()
            ))
            .expected(format!(
                "{} runs that ascend, with the {} pages that the record states",
                self.stated,
                self.pages()
            ))
        });
        if !fits {
            self.runs.clear();
        }
    }

    /// Compares the list with the bitmap of a minidump.
    pub(crate) fn check(&self, avail: &Avail, bits: &Bits, place: &Location<'_>, sink: &mut Sink) {
        let present = self.runs.iter().find_map(|[start, pages, _]| {
            // `set_runs` has checked that these do not overflow.
            let (from, to) = avail.bits_of(start * self.page, pages * self.page);
            avail.address(bits.next(from).filter(|bit| *bit < to)?)
        });
        sink.check(&rules::SEAL_RECORDS, present.is_none(), place, |f| {
            f.found(format!(
                "page {:#x} in the list of excluded pages and in the bitmap",
                present.unwrap_or(0)
            ))
            .expected("a page in one of them")
        });
    }
}

/// Adds the piece of the list of excluded pages in `bytes` to `runs`. Returns a description of what is wrong
/// with it.
pub(crate) fn add_runs(runs: &mut Vec<[u64; 3]>, offset: u64, bytes: &[u8]) -> Option<String> {
    let len = attachment::EXCLUDED_RUN_LEN;
    let place = (runs.len() * len) as u64;
    if !bytes.len().is_multiple_of(len) || offset != place {
        return Some(format!(
            "a list of {} bytes at offset {offset}, not of whole runs at {place}",
            bytes.len()
        ));
    }
    if runs.len() + bytes.len() / len > RUNS {
        return Some(format!("a list of more than {RUNS} runs"));
    }
    let run = |run: &[u8]| [number(run, 0, 8), number(run, 8, 4), number(run, 12, 4)];
    runs.extend(bytes.chunks_exact(len).map(run));
    None
}

/// Whether `name` is the name of a class or of redacted memory.
fn is_name(name: &[u8]) -> bool {
    let text = std::str::from_utf8(name);
    name.len() <= attachment::RECEIPT_NAME_MAX
        && text.is_ok_and(|text| !text.chars().any(char::is_control))
}

/// The number of redacted ranges and of their bytes; `None` if the record is invalid.
fn redacted(mut rest: &[u8]) -> Option<(u64, u64)> {
    let (mut ranges, mut bytes, mut end) = (0, 0_u64, 0);
    while !rest.is_empty() {
        let (head, after) = rest.split_at_checked(attachment::REDACTED_RANGE_LEN)?;
        let (start, len) = (number(head, 0, 8), number(head, 8, 8));
        let name = number(head, 16, 4) as usize;
        let follows = (ranges == 0 || start >= end) && len > 0;
        let (name, after) = after.split_at_checked(name)?;
        end = start
            .checked_add(len)
            .filter(|_| follows && is_name(name))?;
        rest = after;
        ranges += 1;
        bytes = bytes.saturating_add(len);
    }
    (ranges <= attachment::REDACTED_RANGES_MAX as u64).then_some((ranges, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of_class(name: &[u8]) -> Vec<u8> {
        let mut record = 0_u64.to_le_bytes().to_vec();
        record.extend([4096_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat());
        record.extend(8_u64.to_le_bytes());
        record.extend((name.len() as u32).to_le_bytes());
        record.extend(name);
        record
    }

    fn record_of_range(name: &[u8]) -> Vec<u8> {
        let mut record = [0x1000_u64.to_le_bytes(), 8_u64.to_le_bytes()].concat();
        record.extend((name.len() as u32).to_le_bytes());
        record.extend(name);
        record
    }

    /// Readers refuse other names.
    #[test]
    fn names_are_printable_text() {
        let class = |name: &[u8]| Receipt::default().excluded(&record_of_class(name));
        let range = |name: &[u8]| redacted(&record_of_range(name)).is_some();
        for name in [&b"free"[..], "zone:\u{e4}".as_bytes(), &[b'a'; 256]] {
            assert!(class(name) && range(name), "{name:?}");
        }
        for name in [&b"\xff\xfe"[..], b"\x1b[31mfree", b"a\nb", &[b'a'; 257]] {
            assert!(!class(name) && !range(name), "{name:?}");
        }
        assert!(!class(b""));
    }
}
