//! Selects one dump of a directory: the newest, or the one with a number.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::dump_name;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;

/// The directory that savecore(8) and crashinfo(8) use.
pub(crate) const DEFAULT: &str = "/var/crash";

/// The path of the dump `number` in `directory`, or of its newest dump.
///
/// The newest is the newest target of the links `*.last`; without links, the newest file. It is
/// selected by the times of the files, because this code runs outside of the sandbox and parses no
/// file.
///
/// # Errors
///
/// The directory cannot be read, or does not have exactly one such dump.
pub(crate) fn one(directory: &Path, number: Option<u64>) -> Result<PathBuf, Failure> {
    let about = |failure: Failure| failure.about(directory);
    let (mut dumps, mut linked) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).map_err(|e| about(e.into()))? {
        let name = entry.map_err(|e| about(e.into()))?.file_name();
        let text = name.to_string_lossy();
        let key = dump_name(&text);
        match key.map(|(_, number, _)| number) {
            Some(found) if number.is_none_or(|number| number == found) => {
                dumps.extend(Found::new(directory, name, found));
            }
            None if number.is_none() && is_last(&text) => {
                let target = fs::read_link(directory.join(&name)).ok();
                let target = target.map(PathBuf::into_os_string);
                let key = target.as_deref().and_then(|target| target.to_str());
                if let (Some((_, found, _)), Some(target)) = (key.and_then(dump_name), &target) {
                    linked.extend(Found::new(directory, target.clone(), found));
                }
            }
            _ => {}
        }
    }
    let Some(number) = number else {
        let newest = linked.into_iter().max().or(dumps.into_iter().max());
        let newest = newest.map(|found| directory.join(found.name));
        return newest.ok_or_else(|| {
            about(
                Failure::new(
                    Exit::COULD_NOT,
                    "no dumps found (files named vmcore.N or livecore.N)",
                )
                .id_is(Id::NoDumps),
            )
        });
    };
    match &dumps[..] {
        [found] => Ok(directory.join(&found.name)),
        [] => {
            let failure = Failure::could_not(format_args!("no dump has number {number}"));
            Err(about(failure.id_is(Id::NoSuchDump)).next("use `livecore list` to list the dumps"))
        }
        several => {
            let mut names: Vec<_> = several.iter().map(|f| f.name.to_string_lossy()).collect();
            names.sort();
            let what = format_args!("{} dumps have number {number}", names.len()).to_string();
            let failure = Failure::could_not(what).id_is(Id::NoSuchDump);
            Err(about(failure).next(format_args!("name one: {}", names.join(", "))))
        }
    }
}

/// Whether `name` is a link to the newest dump.
fn is_last(name: &str) -> bool {
    let plain = [".gz", ".zst"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .unwrap_or(name);
    plain.ends_with(".last") && plain != "info.last"
}

/// A dump, in the order of age.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    time: SystemTime,
    number: u64,
    name: OsString,
}

impl Found {
    /// `None` if the dump is not a file.
    fn new(directory: &Path, name: OsString, number: u64) -> Option<Self> {
        let found = directory.join(&name).metadata().ok()?;
        let time = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        found.is_file().then_some(Self { time, number, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    /// Files of increasing age.
    fn directory(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (age, name) in names.iter().enumerate() {
            let file = File::create(dir.path().join(name)).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age as u64);
            file.set_modified(time).unwrap();
        }
        dir
    }

    fn chosen(dir: &tempfile::TempDir, number: Option<u64>) -> Result<String, Id> {
        let path = one(dir.path(), number).map_err(|failure| failure.id())?;
        Ok(path.file_name().unwrap().to_str().unwrap().into())
    }

    #[test]
    fn newest_is_the_newest_link_or_else_the_newest_file() {
        let dir = directory(&["info.9", "vmcore.2.zst", "vmcore.7", "livecore.3.gz"]);
        assert_eq!(chosen(&dir, None).as_deref(), Ok("vmcore.2.zst"));
        symlink("livecore.3.gz", dir.path().join("livecore.last.gz")).unwrap();
        symlink("vmcore.9", dir.path().join("vmcore.last.zst")).unwrap();
        symlink("info.9", dir.path().join("info.last")).unwrap();
        assert_eq!(chosen(&dir, None).as_deref(), Ok("livecore.3.gz"));
        symlink("vmcore.7", dir.path().join("vmcore.last")).unwrap();
        assert_eq!(chosen(&dir, None).as_deref(), Ok("vmcore.7"));
        assert_eq!(chosen(&directory(&["info.0"]), None), Err(Id::NoDumps));
    }

    #[test]
    fn number_selects_exactly_one_dump() {
        let dir = directory(&[
            "vmcore.2.zst",
            "vmcore.host.3",
            "vmcore.4",
            "vmcore.4.gz",
            "core.txt.5",
        ]);
        assert_eq!(chosen(&dir, Some(2)).as_deref(), Ok("vmcore.2.zst"));
        assert_eq!(chosen(&dir, Some(3)).as_deref(), Ok("vmcore.host.3"));
        for number in [4, 5] {
            assert_eq!(chosen(&dir, Some(number)), Err(Id::NoSuchDump));
        }
    }
}
