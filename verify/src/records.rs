//! The producer's records in the seal's attachment: torn pages, pauses, and CPUs whose registers
//! the producer inserted.

use livecore_defs::seal as attachment;

use crate::finding::{Location, Sink};
use crate::input::little;
use crate::rules;

/// Nanoseconds per second.
const SECOND: u64 = 1_000_000_000;

/// The values of the records of type `kind`. The lengths in `records` must have been checked.
pub(crate) fn of_kind(mut records: &[u8], kind: u32) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let Some((head, rest)) = records.split_at_checked(attachment::RECORD_HEAD) {
        let word = |at: usize| {
            head[at..at + 4]
                .iter()
                .rev()
                .fold(0, |n, b| n << 8 | u32::from(*b))
        };
        let Some((value, next)) = rest.split_at_checked(word(4) as usize) else {
            break;
        };
        if word(0) == kind {
            found.push(value);
        }
        records = next;
    }
    found
}

/// The record of salvage: pages kept, pages lost, bytes of sections lost.
pub(crate) fn salvaged(records: &[u8]) -> Option<[u64; 3]> {
    let record = *of_kind(records, attachment::RECORD_SALVAGED).first()?;
    let number = |at: usize| {
        record[at..at + 8]
            .iter()
            .rev()
            .fold(0, |n, b| n << 8 | u64::from(*b))
    };
    (record.len() == 24).then(|| [0, 8, 16].map(number))
}

/// The content of the valid records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProducerRecords {
    /// Number of pages watched for changes, and how many of them changed.
    pub(crate) torn: Option<(u64, u64)>,
    /// Number of 4 KiB pages compared or copied during a pause.
    pub(crate) paused: Option<u64>,
    /// What no checksum proves: pages, bytes of sections, ranges in their list.
    pub(crate) unproven: Option<[u64; 3]>,
    /// Whether the kerneldumpheader was rebuilt.
    pub(crate) rebuilt: bool,
    /// Whether salvage wrote the dump.
    pub(crate) salvaged: bool,
    /// Whether `convert --exclude` left pages out.
    pub(crate) excludes: bool,
}

impl ProducerRecords {
    /// Checks that the record at `at` states the length of the list of unproven ranges.
    pub(crate) fn check_ranges(self, ranges: u64, at: u64, sink: &mut Sink) {
        let stated = self.unproven.map_or(0, |[_, _, ranges]| ranges);
        let place = Location::file("seal attachment", at);
        sink.check(&rules::SEAL_RECORDS, stated == ranges, &place, |f| {
            f.found(format!("{stated} unproven ranges"))
                .expected(format!("{ranges}, as the parts list them"))
        });
    }

    /// Compares the page counts of the records with the dump's `pages`.
    pub(crate) fn check_pages(self, pages: u64, place: &Location<'_>, sink: &mut Sink) {
        if let Some([unproven, ..]) = self.unproven {
            sink.check(&rules::SEAL_RECORDS, unproven <= pages, place, |f| {
                f.found(format!("{unproven} unproven pages"))
                    .expected(format!("no more than the dump's {pages}"))
            });
        }
        if self.salvaged || self.excludes {
            return;
        }
        if let Some((watched, _)) = self.torn {
            sink.check(&rules::SEAL_RECORDS, watched == pages, place, |f| {
                f.found(format!("{watched} pages watched for changes"))
                    .expected(format!("{pages}, the pages of the dump"))
            });
        }
        if let Some(paused) = self.paused {
            // The record counts pages of 4 KiB; the dump's may be larger.
            let right = paused == pages || (pages > 0 && paused.is_multiple_of(pages));
            sink.check(&rules::SEAL_RECORDS, right, place, |f| {
                f.found(format!("{paused} pages compared or copied during a pause"))
                    .expected(format!("{pages} pages of the dump, or a multiple"))
            });
        }
    }
}

/// Applies the rules about the records. Their lengths must have been checked.
pub(crate) fn check(records: &[u8], place: &Location<'_>, sink: &mut Sink) -> ProducerRecords {
    let torn = of_kind(records, attachment::RECORD_TORN);
    let cpus = of_kind(records, attachment::RECORD_CPUS);
    let pauses = of_kind(records, attachment::RECORD_PAUSE);
    let unproven = of_kind(records, attachment::RECORD_UNPROVEN);
    let once = [&torn, &cpus, &pauses, &unproven]
        .iter()
        .all(|all| all.len() <= 1);
    sink.check(&rules::SEAL_RECORDS, once, place, |f| {
        f.found(format!(
            "{} records of torn pages, {} of pauses, {} of CPUs, {} of unproven pages",
            torn.len(),
            pauses.len(),
            cpus.len(),
            unproven.len()
        ))
        .expected("at most one of each")
    });
    for record in cpus {
        check_cpus(record, place, sink);
    }
    let mut producer = ProducerRecords::default();
    for record in torn {
        producer.torn = check_torn(record, place, sink);
    }
    for record in unproven {
        producer.unproven = check_unproven(record, place, sink);
    }
    for record in pauses {
        producer.paused = check_pause(record, place, sink);
    }
    producer
}

/// Kind of a pause: the machine was already paused.
const FOUND: u64 = 0;
/// Kind of a pause: the producer copied the memory before and compared it during the pause.
const COMPARED: u64 = 1;
/// The last known kind.
const KNOWN: u64 = 3;

/// Returns the number of pages compared or new during the pause, for a pause of that kind.
fn check_pause(record: &[u8], place: &Location<'_>, sink: &mut Sink) -> Option<u64> {
    let long = record.len() >= attachment::PAUSE_LEN;
    sink.check(&rules::SEAL_RECORDS, long, place, |f| {
        f.found(format!("a pause record of {} bytes", record.len()))
            .expected(format!("at least {} bytes", attachment::PAUSE_LEN))
    });
    if !long {
        return None;
    }
    let how = little(record, attachment::PAUSE_HOW_FIELD);
    let start = little(record, attachment::PAUSE_START_FIELD);
    let length = little(record, attachment::PAUSE_LENGTH_FIELD);
    let compared = little(record, attachment::PAUSE_COMPARED_FIELD);
    let changed = little(record, attachment::PAUSE_CHANGED_FIELD);
    let new = little(record, attachment::PAUSE_NEW_FIELD);
    let all = compared.checked_add(new);
    let sound = changed <= compared
        && all.is_some()
        && start.checked_add(length).is_some()
        && (how != FOUND || length == 0)
        && (how == COMPARED || how > KNOWN || all == Some(0));
    sink.check(&rules::SEAL_RECORDS, sound, place, |f| {
        f.found(format!(
            "a pause of kind {how} from {start} ns, {length} ns long; {changed} pages changed of \
             {compared} compared, {new} new"
        ))
        .expected(
            "no more pages changed than compared, page counts only in a pause of kind 1, a length \
             only if the producer made the pause",
        )
    });
    let seconds = format!("{}.{:03} s", length / SECOND, length % SECOND / 1_000_000);
    let pause = match how {
        FOUND => "the machine was already paused".into(),
        COMPARED => format!(
            "a pause of {seconds}; of {compared} pages copied before it, {changed} had changed and \
             were copied again, {new} were new"
        ),
        _ => format!("a pause of {seconds} while the memory was read"),
    };
    sink.check(&rules::SEAL_PAUSE, false, place, |f| {
        f.found(pause).expected("no pause")
    });
    all.filter(|_| sound && how == COMPARED)
}

fn check_torn(record: &[u8], place: &Location<'_>, sink: &mut Sink) -> Option<(u64, u64)> {
    let long = record.len() >= attachment::TORN_LEN;
    sink.check(&rules::SEAL_RECORDS, long, place, |f| {
        f.found(format!("a torn-page record of {} bytes", record.len()))
            .expected(format!("at least {} bytes", attachment::TORN_LEN))
    });
    if !long {
        return None;
    }
    let pages = little(record, attachment::TORN_PAGES_FIELD);
    let torn = little(record, attachment::TORN_TORN_FIELD);
    let again = little(record, attachment::TORN_AGAIN_FIELD);
    let start = little(record, attachment::TORN_START_FIELD);
    let end = little(record, attachment::TORN_END_FIELD);
    let sound = torn <= pages && again <= pages && start <= end;
    sink.check(&rules::SEAL_RECORDS, sound, place, |f| {
        f.found(format!(
            "{torn} torn pages and {again} pages read again, of {pages}, from {start} to {end} ns"
        ))
        .expected("no more than the pages read, and an end after the start")
    });
    sink.check(&rules::LIV_TORN, torn == 0, place, |f| {
        let window = end.saturating_sub(start);
        f.found(format!(
            "{torn} of {pages} pages changed while they were read, within {}.{:03} s; {again} were \
             read again",
            window / SECOND,
            window % SECOND / 1_000_000,
        ))
        .expected("no page that changed while it was read")
    });
    sound.then_some((pages, torn))
}

/// Returns the pages, bytes of sections and ranges that no checksum proves.
fn check_unproven(record: &[u8], place: &Location<'_>, sink: &mut Sink) -> Option<[u64; 3]> {
    let long = record.len() >= attachment::UNPROVEN_LEN;
    sink.check(&rules::SEAL_RECORDS, long, place, |f| {
        f.found(format!("an unproven-page record of {} bytes", record.len()))
            .expected(format!("at least {} bytes", attachment::UNPROVEN_LEN))
    });
    if !long {
        return None;
    }
    let numbers = [
        attachment::UNPROVEN_PAGES_FIELD,
        attachment::UNPROVEN_SECTIONS_FIELD,
        attachment::UNPROVEN_RANGES_FIELD,
    ]
    .map(|at| little(record, at));
    let [pages, sections, _] = numbers;
    sink.check(
        &rules::SEAL_UNPROVEN,
        pages == 0 && sections == 0,
        place,
        |f| {
            f.found(format!(
                "{pages} pages and {sections} bytes of sections that no checksum proves"
            ))
            .expected("a checksum for every page")
        },
    );
    Some(numbers)
}

fn check_cpus(record: &[u8], place: &Location<'_>, sink: &mut Sink) {
    let whole = record.len().is_multiple_of(attachment::CPU_LEN) && !record.is_empty();
    sink.check(&rules::SEAL_RECORDS, whole, place, |f| {
        f.found(format!("a CPU record of {} bytes", record.len()))
            .expected(format!("a multiple of {}", attachment::CPU_LEN))
    });
    let count = record.len() / attachment::CPU_LEN;
    sink.check(&rules::SEAL_CPUS, count == 0, place, |f| {
        f.found(format!(
            "registers of {count} CPUs, written by the producer"
        ))
        .expected("registers saved by the kernel")
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Filter;

    /// The value of a pause record, as docs/sealed.md describes it.
    fn pause(how: u32, numbers: [u64; 5]) -> Vec<u8> {
        let mut value = [how, 0].map(u32::to_le_bytes).concat();
        value.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        value
    }

    fn record(kind: u32, value: &[u8]) -> Vec<u8> {
        let head = [kind, value.len() as u32].map(u32::to_le_bytes).concat();
        [head, value.to_vec()].concat()
    }

    /// Number of findings of SEAL-RECORDS and SEAL-PAUSE for a dump of `pages` pages.
    fn broken(records: &[u8], salvaged: bool, pages: u64) -> [u64; 2] {
        let mut sink = Sink::new(Filter::default(), 16);
        let place = Location::file("seal attachment", 0);
        let mut producer = check(records, &place, &mut sink);
        producer.salvaged = salvaged;
        producer.check_pages(pages, &place, &mut sink);
        let (_, outcomes) = sink.into_parts();
        ["SEAL-RECORDS", "SEAL-PAUSE"].map(|id| outcomes.get(id).map_or(0, |o| o.broken))
    }

    #[test]
    fn impossible_numbers_of_a_pause_are_findings() {
        let at = 1_700_000_000_000_000_000;
        let sound = [at, 5, 90, 90, 10];
        for (how, numbers, expected) in [
            (1, sound, 0),
            (1, [at, 5, 390, 3, 10], 0), // pages of 16 KiB
            (1, [at, 5, 90, 91, 10], 1),
            (1, [at, 5, 90, 9, 9], 1),
            (1, [at, 5, u64::MAX, 9, 9], 1),
            (1, [at, u64::MAX, 90, 9, 10], 1),
            (0, [at, 0, 0, 0, 0], 0),
            (0, [at, 5, 0, 0, 0], 1),
            (2, [at, 5, 0, 0, 0], 0),
            (2, sound, 1),
            (3, [at, 5, 0, 0, 1], 1),
            // The meaning of the numbers of an unknown kind is unknown.
            (4, [at, 5, 7, 3, 1], 0),
        ] {
            let value = pause(how, numbers);
            let found = broken(&record(5, &value), false, 100);
            assert_eq!(found, [expected, 1], "{how} {numbers:?}");
        }
        let value = pause(1, sound);
        assert_eq!(broken(&record(5, &value[..47]), false, 100), [1, 0]);
        let longer = [&value[..], &[7; 9]].concat();
        assert_eq!(broken(&record(5, &longer), false, 100), [0, 1]);
        let twice = record(5, &value).repeat(2);
        assert_eq!(broken(&twice, false, 100), [1, 2]);
        // A salvaged dump has fewer pages than the record counts.
        assert_eq!(broken(&record(5, &value), false, 98), [1, 1]);
        assert_eq!(broken(&record(5, &value), true, 98), [0, 1]);
    }

    #[test]
    fn the_torn_record_counts_the_pages_of_the_dump() {
        let mut value = vec![0; 48];
        value[0] = 100;
        let record = record(3, &value);
        assert_eq!(broken(&record, false, 100), [0, 0]);
        assert_eq!(broken(&record, false, 99), [1, 0]);
        assert_eq!(broken(&record, true, 99), [0, 0]);
    }
}
