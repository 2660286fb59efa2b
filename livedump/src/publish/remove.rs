//! Removes the files of a dump from a crash directory.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Mode, OFlags};

use super::cleanup::publishing;
use super::{Directory, PublishError};

/// Suffixes of dumps.
const SUFFIXES: [&str; 3] = ["", ".gz", ".zst"];

/// Removes the files of one dump, and the links `*.last` to them. `files` have the metadata with
/// which they were listed; a symbolic link is removed, and its target is not.
///
/// The order is: links, `core.txt.N`, `info.N`, the dump, `key.N`. If the process is killed, what is
/// left is therefore a complete dump, or a key without a dump. A signal that ends the process is
/// handled after the last file.
///
/// # Errors
///
/// [`PublishError::Io`] if a file has changed since it was listed, before any is removed, or if a
/// file cannot be removed.
pub fn remove_dump(
    directory: &Directory,
    files: &[(String, Metadata)],
) -> Result<(), PublishError> {
    let failed =
        |name: &str, e: io::Error| PublishError::from_io("remove", directory.path.join(name), e);
    for (name, listed) in files.iter().filter(|(_, listed)| listed.is_file()) {
        let same = is_same(directory, name, listed).map_err(|e| failed(name, e))?;
        if !same {
            let changed = io::Error::other("the file has changed since it was listed");
            return Err(failed(name, changed));
        }
    }
    let guard = publishing();
    // `info.last`, and of netdumpd(8) `info.HOST.last`.
    let stems = files.iter().filter_map(|(name, _)| {
        let plain = SUFFIXES[1..].iter().find_map(|s| name.strip_suffix(s));
        Some(plain.unwrap_or(name).rsplit_once('.')?.0)
    });
    let links = stems.flat_map(|stem| SUFFIXES.map(|suffix| format!("{stem}.last{suffix}")));
    for link in links {
        let target = directory.link_target(&link);
        let target = target.as_ref().and_then(|target| target.to_str().ok());
        if target.is_some_and(|target| files.iter().any(|(name, _)| name == target)) {
            directory.remove(&link).map_err(|e| failed(&link, e))?;
        }
    }
    let mut names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_by_key(|name| rank(name));
    for name in names {
        directory.remove(name).map_err(|e| failed(name, e))?;
    }
    drop(guard);
    directory.sync()
}

/// The position in the order of removal.
fn rank(name: &str) -> u8 {
    match name {
        _ if name.starts_with("core.txt.") => 0,
        _ if name.starts_with("info.") => 1,
        _ if name.starts_with("key.") => 3,
        _ => 2,
    }
}

/// Whether `name` is still the regular file with the metadata `listed`.
fn is_same(directory: &Directory, name: &str, listed: &Metadata) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(
        &*directory.fd,
        name,
        flags,
        Mode::empty(),
    )?);
    let identity = |of: &Metadata| (of.dev(), of.ino(), of.len(), of.mtime(), of.mtime_nsec());
    Ok(identity(&file.metadata()?) == identity(listed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn listed(dir: &Path, names: &[&str]) -> Vec<(String, Metadata)> {
        let listed = names.iter().map(|name| {
            let found = dir.join(name).symlink_metadata().unwrap();
            ((*name).to_owned(), found)
        });
        listed.collect()
    }

    fn left(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn links_to_removed_files_are_removed_and_targets_of_links_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        for name in ["vmcore.1", "vmcore.2", "info.2", "elsewhere/report"] {
            fs::write(at(name), name).unwrap();
        }
        symlink("elsewhere/report", at("core.txt.1")).unwrap();
        symlink("vmcore.1", at("vmcore.last")).unwrap();
        symlink("info.2", at("info.last")).unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let files = listed(dir.path(), &["vmcore.1", "core.txt.1"]);
        remove_dump(&directory, &files).unwrap();
        let expected = ["elsewhere", "info.2", "info.last", "vmcore.2"];
        assert_eq!(left(dir.path()), expected);
        assert_eq!(left(&at("elsewhere")), ["report"]);
    }

    #[test]
    fn links_of_a_host_are_removed_with_its_dump() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let names = ["vmcore.web.1.zst", "info.web.1"];
        for name in names {
            fs::write(at(name), name).unwrap();
        }
        symlink("vmcore.web.1.zst", at("vmcore.web.last")).unwrap();
        symlink("info.web.1", at("info.web.last")).unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        remove_dump(&directory, &listed(dir.path(), &names)).unwrap();
        assert_eq!(left(dir.path()), [] as [String; 0]);
    }

    #[test]
    fn replaced_file_keeps_all_files_of_the_dump() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["vmcore.1", "info.1"] {
            fs::write(at(name), name).unwrap();
        }
        let files = listed(dir.path(), &["info.1", "vmcore.1"]);
        fs::write(at("new"), "a new dump").unwrap();
        fs::rename(at("new"), at("vmcore.1")).unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let error = remove_dump(&directory, &files).unwrap_err();
        assert!(matches!(error, PublishError::Io { .. }), "{error}");
        assert_eq!(left(dir.path()), ["info.1", "vmcore.1"]);
    }

    #[test]
    fn what_describes_the_dump_goes_first_and_its_key_last() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["vmcore_encrypted.1", "info.1", "key.1", "core.txt.1"] {
            fs::write(at(name), name).unwrap();
        }
        let names = ["key.1", "vmcore_encrypted.1", "info.1", "core.txt.1"];
        let mut files = listed(dir.path(), &names);
        // A directory with the name of the dump cannot be removed as a file.
        fs::remove_file(at("vmcore_encrypted.1")).unwrap();
        fs::create_dir(at("vmcore_encrypted.1")).unwrap();
        files[1].1 = at("vmcore_encrypted.1").symlink_metadata().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        remove_dump(&directory, &files).unwrap_err();
        assert_eq!(left(dir.path()), ["key.1", "vmcore_encrypted.1"]);
    }
}
