//! What a producer says of its own work, in records of the seal's attachment: torn pages, and CPUs
//! whose registers it put in.

use minidump::defs::seal as attachment;

use crate::finding::{Place, Sink};
use crate::input::little;
use crate::rules;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// The values of the records of type `kind` in `records`, which are sound.
fn of_kind(mut records: &[u8], kind: u32) -> Vec<&[u8]> {
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

/// What salvage kept and lost: pages kept, pages lost, bytes of sections lost.
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

/// Applies the rules about the records, whose lengths have been checked. Gives the pages that were
/// watched while they were read, and how many of them are torn.
pub(crate) fn check(records: &[u8], place: &Place<'_>, sink: &mut Sink) -> Option<(u64, u64)> {
    let torn = of_kind(records, attachment::RECORD_TORN);
    let cpus = of_kind(records, attachment::RECORD_CPUS);
    let once = torn.len() <= 1 && cpus.len() <= 1;
    sink.check(&rules::SEAL_RECORDS, once, place, |f| {
        f.found(format!(
            "{} records of torn pages, {} of CPUs",
            torn.len(),
            cpus.len()
        ))
        .expected("one of each at most")
    });
    for record in cpus {
        check_cpus(record, place, sink);
    }
    let mut found = None;
    for record in torn {
        found = check_torn(record, place, sink);
    }
    found
}

fn check_torn(record: &[u8], place: &Place<'_>, sink: &mut Sink) -> Option<(u64, u64)> {
    let long = record.len() >= attachment::TORN_LEN;
    sink.check(&rules::SEAL_RECORDS, long, place, |f| {
        f.found(format!("a record of torn pages of {} bytes", record.len()))
            .expected(format!("{}", attachment::TORN_LEN))
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
            "{torn} torn pages and {again} read again of {pages}, from {start} to {end} ns"
        ))
        .expected("no more than there are pages, and an end behind the start")
    });
    sink.check(&rules::LIV_TORN, torn == 0, place, |f| {
        let window = end.saturating_sub(start);
        f.found(format!(
            "{torn} of {pages} pages torn, in {}.{:03} s; {again} changed and were read again",
            window / SECOND,
            window % SECOND / 1_000_000,
        ))
        .expected("none")
    });
    sound.then_some((pages, torn))
}

fn check_cpus(record: &[u8], place: &Place<'_>, sink: &mut Sink) {
    let whole = record.len().is_multiple_of(attachment::CPU_LEN) && !record.is_empty();
    sink.check(&rules::SEAL_RECORDS, whole, place, |f| {
        f.found(format!("a record of CPUs of {} bytes", record.len()))
            .expected(format!("a multiple of {}", attachment::CPU_LEN))
    });
    let count = record.len() / attachment::CPU_LEN;
    sink.check(&rules::SEAL_CPUS, count == 0, place, |f| {
        f.found(format!(
            "registers of {count} CPUs, put in by the dump's producer"
        ))
        .expected("what was in memory")
    });
}
