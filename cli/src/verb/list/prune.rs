//! Removes old dumps.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, SystemTime};

use livecore_defs::text::printable;
use livecore_livedump::publish::{Directory, Notice, remove_dump};
use livecore_verify::Depth;
use serde::Serialize;

use super::Args;
use super::inventory::{Inventory, disk_size};
use crate::failure::Failure;
use crate::id::Id;
use crate::session::Session;
use crate::text::Short;

/// How long to wait for another process that locks the directory.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const DAY: u64 = 24 * 60 * 60;

/// What was removed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Pruned {
    dry_run: bool,
    /// The files of each removed dump, the oldest first.
    removed: Vec<Removed>,
    /// The dumps that would have been removed, but are not verified.
    kept: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Removed {
    files: Vec<String>,
    disk_size: u64,
}

/// The limits of `--prune`.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    keep: Option<usize>,
    max_size: Option<u64>,
    /// Remove what is older than this time.
    oldest: Option<u64>,
}

/// The dumps with one number, which are removed together.
#[derive(Debug, Clone)]
struct Set {
    /// `N` or `HOST.N`.
    name: String,
    /// The host of netdumpd.
    host: String,
    time: u64,
    disk_size: u64,
    /// Whether each dump is a regular file without a known error.
    good: bool,
    /// Whether each dump was verified with all checksums.
    verified: bool,
}

/// Removes the dumps that exceed the limits from the directory and from `inventory`.
///
/// # Errors
///
/// A file cannot be removed, or a signal stops the work.
pub(super) fn run(
    args: &Args,
    inventory: &mut Inventory,
    session: &mut Session<'_>,
) -> Result<Pruned, Failure> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let limits = Limits {
        keep: args.keep.map(Into::into),
        max_size: args.max_size,
        oldest: args
            .older_than
            .map(|days| now.saturating_sub(u64::from(days) * DAY)),
    };
    let mut pruned = Pruned {
        dry_run: args.dry_run,
        ..Pruned::default()
    };
    let mut sets = sets(inventory);
    let total = inventory.disk_size();
    // Each round verifies a dump, or is the last.
    let chosen = loop {
        let chosen = select(&sets, limits, total);
        let anchors = anchors(&sets, &chosen);
        let next = chosen.iter().chain(&anchors).find(|i| !sets[**i].verified);
        let Some(&next) = next else { break chosen };
        let set = &mut sets[next];
        if verify(inventory, &set.name, session)? {
            set.verified = true;
        } else {
            set.good = false;
            let files = &inventory.sets[&set.name];
            let dump = inventory.directory.join(&files[0].0);
            let what = "not removed or counted: the dump has errors; `livecore verify` prints them";
            session.warn(&dump, Id::NotVerified, what);
            pruned.kept.push(files[0].0.clone());
        }
    };
    let directory = Directory::open(&args.directory)?;
    if !args.dry_run && !directory.lock(LOCK_WAIT) {
        let notice = Notice::NotLocked {
            path: args.directory.clone(),
            seconds: LOCK_WAIT.as_secs(),
        };
        session.voice.say(Id::NotLocked, notice);
    }
    for index in chosen {
        if session.env.interrupt.raised().is_some() {
            return Err(livecore_compress::Error::Cancelled.into());
        }
        let name = &sets[index].name;
        let files = inventory.sets[name].clone();
        if !args.dry_run {
            remove_dump(&directory, &files)?;
        }
        let disk_size = files.iter().map(|(_, found)| disk_size(found)).sum();
        let files: Vec<_> = files.into_iter().map(|(name, _)| name).collect();
        if !args.json {
            let verb = if args.dry_run {
                "would remove"
            } else {
                "removed"
            };
            let names = files.join(", ");
            let (names, size) = (printable(&names), Short(disk_size));
            writeln!(session.out, "{verb} {names} ({size})")?;
        }
        pruned.removed.push(Removed { files, disk_size });
        if !args.dry_run {
            inventory.sets.remove(name);
            inventory.dumps.retain(|dump| dump.set != *name);
        }
    }
    let removed: u64 = pruned.removed.iter().map(|set| set.disk_size).sum();
    warn_of_size(args, total.saturating_sub(removed), session);
    Ok(pruned)
}

/// Warns if the dumps that are left exceed `--max-size`.
fn warn_of_size(args: &Args, left: u64, session: &mut Session<'_>) {
    if let Some(max) = args.max_size.filter(|max| left > *max) {
        let what = format!(
            "the dumps that may not be removed need {}, more than --max-size {}",
            Short(left),
            Short(max)
        );
        session.warn(&args.directory, Id::TooLarge, what);
    }
}

/// The sets of the directory, the oldest first.
fn sets(inventory: &Inventory) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    // They are in the order of their times.
    for dump in &inventory.dumps {
        sets.retain(|set| set.name != dump.set);
        let same = || inventory.dumps.iter().filter(|other| other.set == dump.set);
        let files = &inventory.sets[&dump.set];
        let host = dump.set.rsplit_once('.').map_or("", |(host, _)| host);
        sets.push(Set {
            name: dump.set.clone(),
            host: host.into(),
            time: dump.time,
            disk_size: files.iter().map(|(_, found)| disk_size(found)).sum(),
            good: same().all(|dump| dump.is_file && dump.check.is_good()),
            verified: false,
        });
    }
    sets
}

/// Verifies the dumps of a set with all checksums.
fn verify(inventory: &Inventory, set: &str, session: &mut Session<'_>) -> Result<bool, Failure> {
    let dumps = inventory.dumps.iter().filter(|dump| dump.set == set);
    for dump in dumps {
        let check = inventory.check(&dump.dump, Depth::Default, session);
        if session.env.interrupt.raised().is_some() {
            return Err(livecore_compress::Error::Cancelled.into());
        }
        if !check.is_good() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The sets to remove, the oldest first. `sets` are in the order of age; `total` is the disk space
/// of all files.
fn select(sets: &[Set], limits: Limits, total: u64) -> Vec<usize> {
    let later = |i: usize| {
        let later = sets[i + 1..].iter();
        later.filter(move |set| set.host == sets[i].host && set.good)
    };
    // The newest good set of a host is not removed.
    let removable = |i: &usize| sets[*i].good && later(*i).next().is_some();
    let removable: Vec<usize> = (0..sets.len()).filter(removable).collect();
    let mut chosen = BTreeSet::new();
    for &i in &removable {
        let is_old = limits.oldest.is_some_and(|oldest| sets[i].time < oldest);
        if is_old || limits.keep.is_some_and(|keep| later(i).count() >= keep) {
            chosen.insert(i);
        }
    }
    let mut left = chosen
        .iter()
        .fold(total, |left, i| left.saturating_sub(sets[*i].disk_size));
    for &i in &removable {
        if limits.max_size.is_some_and(|max| left > max) && chosen.insert(i) {
            left = left.saturating_sub(sets[i].disk_size);
        }
    }
    chosen.into_iter().collect()
}

/// The newest good set of each host of which sets are removed.
fn anchors(sets: &[Set], chosen: &[usize]) -> Vec<usize> {
    let hosts: BTreeSet<&str> = chosen.iter().map(|i| sets[*i].host.as_str()).collect();
    let newest = |host: &str| (0..sets.len()).rfind(|i| sets[*i].host == host && sets[*i].good);
    hosts.into_iter().filter_map(newest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets of increasing time from texts: a host, `+` if it is good, and its size.
    fn sets(texts: &[&str]) -> Vec<Set> {
        let texts = texts.iter().enumerate();
        let set = texts.map(|(i, text)| {
            let at = text.find(['+', '-']).unwrap();
            Set {
                name: i.to_string(),
                host: text[..at].into(),
                time: 100 * i as u64,
                disk_size: text[at + 1..].parse().unwrap(),
                good: text.as_bytes()[at] == b'+',
                verified: false,
            }
        });
        set.collect()
    }

    fn selected(texts: &[&str], limits: Limits) -> Vec<usize> {
        let sets = sets(texts);
        let total = sets.iter().map(|set| set.disk_size).sum();
        select(&sets, limits, total)
    }

    fn keep(n: usize) -> Limits {
        Limits {
            keep: Some(n),
            ..Limits::default()
        }
    }

    fn max_size(bytes: u64) -> Limits {
        Limits {
            max_size: Some(bytes),
            ..Limits::default()
        }
    }

    #[test]
    fn broken_dumps_are_neither_removed_nor_counted() {
        assert_eq!(selected(&["+1", "+1", "+1", "+1"], keep(2)), [0, 1]);
        assert_eq!(selected(&["+1", "-1", "+1", "-1"], keep(1)), [0]);
        assert!(selected(&["-1", "-1", "-1"], keep(1)).is_empty());
        assert!(selected(&["+1", "-1", "-1"], keep(1)).is_empty());
    }

    #[test]
    fn neither_the_newest_nor_the_newest_good_dump_is_removed() {
        assert_eq!(selected(&["+9", "+9", "-9"], max_size(0)), [0]);
        let all_old = Limits {
            oldest: Some(1_000_000),
            ..Limits::default()
        };
        assert_eq!(selected(&["+9", "+9", "+9"], all_old), [0, 1]);
        let some_old = Limits {
            oldest: Some(100),
            ..Limits::default()
        };
        assert_eq!(selected(&["+9", "+9", "+9"], some_old), [0]);
    }

    #[test]
    fn size_removes_the_oldest_until_the_rest_fits() {
        assert_eq!(selected(&["+4", "+3", "+2", "+1"], max_size(6)), [0]);
        assert_eq!(selected(&["+4", "+3", "+2", "+1"], max_size(5)), [0, 1]);
        assert_eq!(selected(&["+4", "-3", "+2", "+1"], max_size(5)), [0, 2]);
        assert!(selected(&["+4", "+3"], max_size(100)).is_empty());
    }

    #[test]
    fn hosts_are_counted_apart() {
        assert_eq!(selected(&["a+1", "b+1", "a+1", "+1"], keep(1)), [0]);
        assert_eq!(anchors(&sets(&["a+1", "b+1", "a+1", "a-1"]), &[0]), [2]);
    }
}
