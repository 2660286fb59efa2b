//! The dumps in a directory such as /var/crash, by their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::session::Session;

/// What a name in a directory stands for.
pub enum Named {
    /// A dump.
    Dump(PathBuf),
    /// Nothing that can be read, and why.
    Refused(PathBuf, String),
}

/// Where to look, and for what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Search {
    /// In the directories below as well.
    pub recursive: bool,
    /// For every file, whatever its name.
    pub all: bool,
}

/// The dumps in one directory, in the order of their names and numbers: `livecore.N`, `vmcore.N` and
/// netdumpd's `vmcore.HOST.N`, with or without a codec's suffix. Links such as `livecore.last` are
/// other names of the same. Says which files are left out.
///
/// What has a dump's name and cannot be read is in the list all the same: a check that steps over it
/// would let it pass.
///
/// # Errors
///
/// The directory cannot be read.
pub fn dumps(directory: &Path, search: Search, session: &Session<'_>) -> io::Result<Vec<Named>> {
    let (mut names, mut others, mut below) = (Vec::new(), Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy().into_owned();
        let path = directory.join(name);
        // Links to directories are not followed: they may form a circle.
        if entry.file_type()?.is_dir() {
            below.push(path);
        } else if let Some(key) = dump_name(&text) {
            names.push((Some(key), path));
        } else if search.all && !is_company(&text) && path.is_file() {
            names.push((None, path));
        } else if !is_company(&text) && path.is_file() {
            others.push(text);
        }
    }
    if let Some(first) = others.iter().min() {
        let files = match others.len() {
            1 => "1 file".into(),
            n => format!("{n} files"),
        };
        let more = if others.len() > 1 { ", …" } else { "" };
        session.voice.say(format_args!(
            "{}: skipped {files} not named vmcore.N or livecore.N: {first}{more}",
            directory.display()
        ));
    }
    // Files with other names come last.
    names.sort_by(|a, b| (a.0.is_none(), a).cmp(&(b.0.is_none(), b)));
    let named = names
        .into_iter()
        .filter_map(|(_, path)| match path.metadata() {
            Ok(found) if found.is_file() => Some(Named::Dump(path)),
            Ok(found) if found.is_dir() => None,
            // Reading a pipe that nobody writes to would never end.
            Ok(_) => Some(Named::Refused(path, "no regular file".into())),
            Err(e) => Some(Named::Refused(path, e.to_string())),
        });
    let mut all: Vec<_> = named.collect();
    below.sort();
    for path in below.into_iter().filter(|_| search.recursive) {
        match dumps(&path, search, session) {
            Ok(found) => all.extend(found),
            Err(e) => all.push(Named::Refused(path, e.to_string())),
        }
    }
    Ok(all)
}

/// What the file `path` is and what to do, if it is an encrypted dump by its name, or by a key beside
/// it.
pub fn encrypted(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let named = name.starts_with("vmcore_encrypted.");
    let number = name.trim_end_matches(".gz").trim_end_matches(".zst");
    let number = number.rsplit_once('.')?.1;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let key = path.with_file_name(format!("key.{number}"));
    if !(named || is_number && key.is_file()) {
        return None;
    }
    Some(format!(
        "an encrypted dump; `decryptcore -p PRIVATEKEY -k key.{number} -e {name} -c vmcore.{number}` \
         decrypts it (decryptcore(8))"
    ))
}

/// Whether a file of this name lies beside dumps: what savecore(8), crashinfo(8) and we put there.
fn is_company(name: &str) -> bool {
    let beginnings = ["info.", "key.", "core.txt.", "livecore.last", "vmcore.last"];
    matches!(name, "bounds" | "minfree") || beginnings.iter().any(|b| name.starts_with(b))
}

/// The stem and the number of a dump's name, and its suffix.
fn dump_name(name: &str) -> Option<(String, u64, String)> {
    let stem = ["livecore.", "vmcore."]
        .into_iter()
        .find(|prefix| name.starts_with(prefix))?;
    let (plain, suffix) = [".gz", ".zst"]
        .into_iter()
        .find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix)))
        .unwrap_or((name, ""));
    let (host, number) = plain.rsplit_once('.')?;
    // Only netdumpd puts a host's name between.
    if host.len() + 1 > stem.len() && stem != "vmcore." {
        return None;
    }
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((host.into(), number.parse().ok()?, suffix.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_stands_for_the_numbered_dumps_in_it() {
        for name in [
            "livecore.0",
            "livecore.12.zst",
            "vmcore.3.gz",
            "vmcore.host.example.org.3.zst",
        ] {
            assert!(dump_name(name).is_some(), "{name}");
        }
        for name in [
            "livecore.last",
            "livecore.last.zst",
            "livecore.tmp.abcdef",
            "livecore.tmp.0",
            "info.0",
            "bounds",
            "vmcore.",
            "vmcore_encrypted.0",
            "livecore.0.bz2",
        ] {
            assert!(dump_name(name).is_none(), "{name}");
        }
    }

    #[test]
    fn dumps_come_in_the_order_of_their_numbers() {
        let mut names = ["vmcore.10", "vmcore.2", "vmcore.0", "livecore.11"].map(dump_name);
        names.sort();
        let numbers = names.map(|name| name.map(|(_, number, _)| number));
        assert_eq!(numbers, [Some(11), Some(0), Some(2), Some(10)]);
    }
}
