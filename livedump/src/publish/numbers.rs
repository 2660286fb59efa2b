//! The numbers in a crash directory: `bounds`, and the owner of each number.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU32;

use rustix::fs::Dir;

use super::directory::Directory;
use super::stem::Stem;
use super::{Notice, PublishError};

/// The last number that savecore(8) can read, since it reads five characters of `bounds`.
pub(crate) const LAST_NUMBER: u32 = 99_999;

/// Files of a dump by savecore(8), netdumpd or crashinfo(8), before their `.N`.
const FOREIGN: [&str; 5] = [
    "vmcore",
    "vmcore_encrypted",
    "textdump.tar",
    "key",
    "core.txt",
];

/// The files of one number.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Number {
    /// A file of another program's dump.
    pub foreign: Option<String>,
    /// Livecore's dumps (`livecore.N`, `.gz`, `.zst`): at most three.
    pub livecores: Vec<String>,
    /// Whether `info.N` exists.
    pub info: bool,
    /// All files except `info.N`.
    pub files: Vec<String>,
}

impl Number {
    /// Whether there are no files.
    pub(crate) fn is_free(&self) -> bool {
        self.foreign.is_none() && self.livecores.is_empty() && !self.info
    }

    /// The files that a dump named by `stem` replaces, except `info.N`.
    pub(crate) fn replaced_by(&self, stem: Stem) -> &[String] {
        match stem {
            Stem::Livecore => &self.livecores,
            _ => &self.files,
        }
    }
}

/// All used numbers of a directory, and the value of `bounds`.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    taken: BTreeMap<u32, Number>,
    bounds: u32,
    /// The temporary file of a `savecore -L`, which has read `bounds` and will remove the files of
    /// that number.
    of_savecore: Option<String>,
}

impl Numbers {
    /// Reads the directory and its `bounds`.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the directory cannot be read.
    pub(crate) fn read(directory: &Directory) -> Result<Self, PublishError> {
        let failed = |e: io::Error| PublishError::from_io("read", &directory.path, e);
        let mut taken = BTreeMap::<u32, Number>::new();
        let mut of_savecore = None;
        for entry in Dir::read_from(&*directory.fd).map_err(|e| failed(e.into()))? {
            let entry = entry.map_err(|e| failed(e.into()))?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if is_savecores_temporary(name) {
                of_savecore = Some(name.into());
            }
            let Some((stem, number)) = split(name) else {
                continue;
            };
            if stem == "info" {
                taken.entry(number).or_default().info = true;
            } else if stem == "livecore" || FOREIGN.contains(&stem) {
                let here = taken.entry(number).or_default();
                here.files.push(name.into());
                match stem {
                    "livecore" => here.livecores.push(name.into()),
                    _ => here.foreign = Some(name.into()),
                }
            }
        }
        Ok(Self {
            taken,
            bounds: parse_bounds(&directory.head("bounds", 5).unwrap_or_default()),
            of_savecore,
        })
    }

    /// The files of `number`.
    pub(crate) fn at(&self, number: u32) -> Number {
        self.taken.get(&number).cloned().unwrap_or_default()
    }

    /// The number of the next dump, and a note for each number that was skipped.
    ///
    /// Without `max` a number is free if it has no files. With `max`, numbers below it are rotated
    /// (savecore's rule: `bounds` equal to `max` restarts at 0), and a livecore dump is replaced;
    /// another program's dump is replaced by the dump of a crashed system only.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if no number is left, or the next one cannot be written.
    pub(crate) fn next(
        &self,
        max: Option<NonZeroU32>,
        stem: Stem,
        directory: &Directory,
    ) -> Result<(u32, Vec<Notice>), PublishError> {
        let mut notes = Vec::new();
        let last = max.map_or(LAST_NUMBER, |m| (m.get() - 1).min(LAST_NUMBER));
        let first = if self.bounds > last { 0 } else { self.bounds };
        for number in (first..=last).chain(0..first) {
            if let Some(temporary) = self.of_savecore.clone()
                && number == self.bounds
            {
                notes.push(Notice::NumberOfSavecore { number, temporary });
                continue;
            }
            let here = self.at(number);
            if here.is_free() || (max.is_some() && (here.foreign.is_none() || stem.is_of_crash())) {
                return Ok((number, notes));
            }
            if notes.len() < 8 {
                let file = here
                    .foreign
                    .or_else(|| here.livecores.first().cloned())
                    .unwrap_or_else(|| format!("info.{number}"));
                notes.push(Notice::NumberSkipped { number, file });
            }
        }
        Err(PublishError::NumbersTaken {
            path: directory.path.clone(),
            last,
        })
    }
}

/// Whether `name` is a temporary file of `savecore -L`: mkostempsat(3) of `livecore.tmp.XXXXXX`.
fn is_savecores_temporary(name: &str) -> bool {
    name.strip_prefix("livecore.tmp.").is_some_and(|random| {
        random.len() == 6 && random.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// The contents of `bounds` after dump `number`.
pub(crate) fn bounds_after(number: u32) -> String {
    // savecore would read only the first five digits of a larger number.
    let next = if number >= LAST_NUMBER { 0 } else { number + 1 };
    format!("{next}\n")
}

/// The number in the first five characters of `bounds`; 0 if there is none.
fn parse_bounds(head: &[u8]) -> u32 {
    head.iter()
        .take(5)
        .skip_while(|c| c.is_ascii_whitespace())
        .take_while(|c| c.is_ascii_digit())
        .fold(0, |n, c| n * 10 + u32::from(c - b'0'))
}

/// Splits `vmcore.12.zst` into `("vmcore", 12)`.
pub(super) fn split(name: &str) -> Option<(&str, u32)> {
    let bare = name
        .strip_suffix(".gz")
        .or_else(|| name.strip_suffix(".zst"))
        .unwrap_or(name);
    let (stem, number) = bare.rsplit_once('.')?;
    let plain = number == "0" || (!number.starts_with('0') && !number.is_empty());
    (plain && number.bytes().all(|c| c.is_ascii_digit()))
        .then(|| number.parse().ok())
        .flatten()
        .map(|n| (stem, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(files: &[&str], bounds: &str) -> (tempfile::TempDir, Directory, Numbers) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        std::fs::write(dir.path().join("bounds"), bounds).unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let numbers = Numbers::read(&directory).unwrap();
        (dir, directory, numbers)
    }

    #[test]
    fn bounds_is_read_like_savecore_does() {
        for (text, number) in [
            ("", 0),
            ("7\n", 7),
            ("007", 7),
            ("123456\n", 12345),
            (" 12x", 12),
            ("x12", 0),
            ("-3\n", 0),
        ] {
            assert_eq!(parse_bounds(text.as_bytes()), number, "{text:?}");
        }
        assert_eq!(bounds_after(6), "7\n");
        assert_eq!(bounds_after(99_999), "0\n");
    }

    #[test]
    fn number_with_another_programs_dump_is_skipped_with_a_note() {
        let (_dir, directory, numbers) =
            numbers(&["vmcore.2.zst", "info.2", "key.3", "livecore.4.gz"], "2\n");
        let (number, notes) = numbers.next(None, Stem::Livecore, &directory).unwrap();
        assert_eq!(number, 5);
        let skipped = [(2, "vmcore.2.zst"), (3, "key.3"), (4, "livecore.4.gz")];
        assert_eq!(
            notes,
            skipped.map(|(number, file)| Notice::NumberSkipped {
                number,
                file: file.into()
            })
        );
    }

    #[test]
    fn number_of_a_running_savecore_is_left_to_it() {
        let (_dir, directory, n) = numbers(&["livecore.tmp.a7Bc9x", "vmcore.6"], "5\n");
        let (number, notes) = n.next(None, Stem::Livecore, &directory).unwrap();
        assert_eq!(number, 7);
        let of_savecore = Notice::NumberOfSavecore {
            number: 5,
            temporary: "livecore.tmp.a7Bc9x".into(),
        };
        assert_eq!(notes[0], of_savecore);
        let (number, _) = n
            .next(NonZeroU32::new(6), Stem::Livecore, &directory)
            .unwrap();
        assert_eq!(number, 0);
        // Livecore's own temporary files have eight characters.
        let (_dir, directory, n) = numbers(&["livecore.tmp.abcdefgh"], "5\n");
        assert_eq!(n.next(None, Stem::Livecore, &directory).unwrap().0, 5);
    }

    #[test]
    fn max_replaces_livecore_dumps_only() {
        let max = NonZeroU32::new(3);
        let (_dir, directory, n) = numbers(&["livecore.0", "info.0", "vmcore.1"], "3\n");
        assert_eq!(n.next(max, Stem::Livecore, &directory).unwrap().0, 0);
        let (_dir, directory, n) = numbers(&["livecore.0", "info.0", "vmcore.1"], "1\n");
        assert_eq!(n.next(max, Stem::Livecore, &directory).unwrap().0, 2);
        let (_dir, directory, n) = numbers(&["vmcore.0", "vmcore.1", "textdump.tar.2.gz"], "1\n");
        assert!(matches!(
            n.next(max, Stem::Livecore, &directory),
            Err(PublishError::NumbersTaken { last: 2, .. })
        ));
    }

    #[test]
    fn dump_of_a_crash_replaces_every_file_of_its_number_with_max_only() {
        let files = ["vmcore_encrypted.0", "key.0", "info.0", "core.txt.0"];
        let (_dir, directory, n) = numbers(&files, "2\n");
        let next = |max| {
            n.next(NonZeroU32::new(max), Stem::Vmcore, &directory)
                .unwrap()
        };
        assert_eq!(next(2).0, 0);
        let mut replaced = n.at(0).replaced_by(Stem::Text).to_vec();
        replaced.sort();
        assert_eq!(replaced, ["core.txt.0", "key.0", "vmcore_encrypted.0"]);
        assert!(n.at(0).replaced_by(Stem::Livecore).is_empty());
        let (_dir, directory, n) = numbers(&files, "0\n");
        assert_eq!(n.next(None, Stem::Vmcore, &directory).unwrap().0, 1);
    }

    #[test]
    fn names_without_a_valid_number_use_none() {
        for name in [
            "vmcore.host.x",
            "vmcore.",
            "info.last",
            "vmcore.01",
            "vmcore.99999999999",
        ] {
            assert_eq!(split(name), None, "{name}");
        }
        assert_eq!(split("textdump.tar.9.gz"), Some(("textdump.tar", 9)));
        assert_eq!(split("vmcore.host.3"), Some(("vmcore.host", 3)));
    }
}
