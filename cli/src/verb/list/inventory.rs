//! The dumps of a directory, with their properties and their files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use livecore_minidump::info;
use livecore_verify::{Depth, Options, Report, Verdict};
use serde::Serialize;

use crate::crash::{Facts, Reader, SignatureFacts};
use crate::crash_directory::{companion_of, dump_name};
use crate::failure::Failure;
use crate::session::Session;
use crate::verifier::Subject;

/// A file and its metadata; those of a link are its own.
pub(super) type Found = (String, Metadata);

/// The dumps of a directory.
pub(super) struct Inventory {
    pub(super) directory: PathBuf,
    /// The newest last.
    pub(super) dumps: Vec<Listed>,
    /// `info.N`, `key.N` and `core.txt.N` without a dump.
    pub(super) without_dump: Vec<String>,
    /// The files of each set, by `N` or `HOST.N`.
    pub(super) sets: BTreeMap<String, Vec<Found>>,
}

/// A dump.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    /// The name of the file.
    pub(super) dump: String,
    pub(super) number: u64,
    /// Seconds since 1970.
    pub(super) time: u64,
    pub(super) time_utc: String,
    /// `header`, `info` or `file`.
    pub(super) time_origin: &'static str,
    pub(super) hostname: Option<String>,
    /// `minidump`, `full`, `text`, `encrypted` or `unknown`.
    pub(super) kind: &'static str,
    pub(super) size: u64,
    /// Of all files of the dump.
    pub(super) disk_size: u64,
    pub(super) panic: Option<String>,
    /// With `--signatures`.
    pub(super) signature: Option<SignatureFacts>,
    pub(super) check: Check,
    /// The dump and the files that belong to it.
    pub(super) files: Vec<String>,
    /// `N` or `HOST.N`.
    #[serde(skip)]
    pub(super) set: String,
    /// Whether the dump is a regular file, not a link.
    #[serde(skip)]
    pub(super) is_file: bool,
}

/// The verdict on a dump.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    /// `quick` or `default`.
    depth: Depth,
    /// The verdict of the verifier, or `encrypted`.
    pub(super) verdict: &'static str,
    /// The reason, of the verdicts `failed` and `not-a-dump`.
    pub(super) reason: Option<String>,
    /// Ids of the rules that the dump breaks.
    rules: Vec<&'static str>,
}

impl Check {
    fn of(report: &Report) -> Self {
        let broken = report.outcomes.iter().filter(|(_, found)| found.broken > 0);
        let rules: Vec<_> = broken.map(|(id, _)| *id).collect();
        let unread = rules.contains(&"KEY-UNREAD") && report.verdict == Verdict::Warnings;
        // The seal has digests of the encrypted data.
        let sealed = report.facts.container == Some(livecore_verify::Container::Sealed);
        Self {
            depth: report.depth,
            verdict: match unread && !sealed {
                true => "encrypted",
                false => report.verdict.name(),
            },
            reason: report.verdict.reason().map(str::to_owned),
            rules,
        }
    }

    fn failed(depth: Depth, failure: &Failure) -> Self {
        Self {
            depth,
            verdict: "failed",
            reason: Some(failure.what().into()),
            rules: Vec::new(),
        }
    }

    /// Whether no error was found, and all data was checked that this depth checks.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.verdict, "sound" | "warnings")
    }
}

impl Inventory {
    /// Reads the directory and the start and the end of each dump; with `signatures`, also the
    /// backtraces.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or a signal stops the work.
    pub(super) fn read(
        directory: &Path,
        signatures: bool,
        reader: &Reader,
        session: &mut Session<'_>,
    ) -> Result<Self, Failure> {
        let about = |e: std::io::Error| Failure::from(e).about(directory);
        let mut sets = BTreeMap::<String, Vec<Found>>::new();
        let mut dumps = Vec::new();
        for entry in fs::read_dir(directory).map_err(about)? {
            let entry = entry.map_err(about)?;
            // The names of dumps are ASCII, except for a host name.
            let Ok(name) = OsString::into_string(entry.file_name()) else {
                continue;
            };
            let found = entry.metadata().map_err(about)?;
            if found.is_dir() {
                continue;
            }
            let set = match dump_name(&name) {
                Some((_, number, _)) => {
                    dumps.push((name.clone(), number));
                    info::name_after_prefix(&name)
                }
                None => companion_of(&name),
            };
            if let Some(set) = set.map(str::to_owned) {
                sets.entry(set).or_default().push((name, found));
            }
        }
        for files in sets.values_mut() {
            // The dump comes first.
            files.sort_by_key(|(name, _)| (dump_name(name).is_none(), name.clone()));
        }
        let mut inventory = Self {
            directory: directory.into(),
            dumps: Vec::new(),
            without_dump: Vec::new(),
            sets,
        };
        for (name, number) in dumps {
            if session.env.interrupt.raised().is_some() {
                return Err(livecore_compress::Error::Cancelled.into());
            }
            let listed = inventory.listed(name, number, signatures, reader, session);
            inventory.dumps.push(listed);
        }
        inventory
            .dumps
            .sort_by(|a, b| (a.time, a.number, &a.dump).cmp(&(b.time, b.number, &b.dump)));
        let has_dump = |set: &String| inventory.dumps.iter().any(|dump| dump.set == *set);
        let without = inventory.sets.iter().filter(|(set, _)| !has_dump(set));
        let without = without.flat_map(|(_, files)| files.iter().map(|(name, _)| name.clone()));
        inventory.without_dump = without.collect();
        Ok(inventory)
    }

    /// The properties of the dump `name`.
    fn listed(
        &self,
        name: String,
        number: u64,
        signatures: bool,
        reader: &Reader,
        session: &mut Session<'_>,
    ) -> Listed {
        let path = self.directory.join(&name);
        let set = info::name_after_prefix(&name)
            .unwrap_or_default()
            .to_owned();
        let files = self.sets.get(&set).map_or(&[][..], Vec::as_slice);
        // Another dump of the same number is in a line of its own.
        let of_dump = |other: &str| other == name || dump_name(other).is_none();
        let own = files.iter().find(|(other, _)| *other == name);
        let check = self.check(&name, Depth::Quick, session);
        let is_file = path.metadata().is_ok_and(|found| found.is_file());
        // Reading a pipe would block.
        let opened = is_file.then(|| reader.open(&path));
        let facts = match &opened {
            Some(opened) => Facts::of(&path, opened, reader),
            None => Facts::unknown().with_info(&path, &session.stores),
        };
        let (time, time_origin) = facts.time_or_file(&path);
        let signature = match opened.filter(|_| signatures) {
            Some(opened) => reader.signature(&opened, &facts, &path),
            None => None,
        };
        Listed {
            number,
            time,
            time_utc: info::utc(time),
            time_origin,
            hostname: facts.hostname,
            kind: facts.kind,
            // Of a link, the size of its target.
            size: path.metadata().map_or(0, |found| found.len()),
            disk_size: files
                .iter()
                .filter(|(other, _)| of_dump(other))
                .map(|(_, found)| disk_size(found))
                .sum(),
            panic: facts.panic,
            signature: signature.as_ref().map(SignatureFacts::from),
            check,
            files: files
                .iter()
                .filter(|(other, _)| of_dump(other))
                .map(|(name, _)| name.clone())
                .collect(),
            is_file: own.is_some_and(|(_, found)| found.is_file()),
            dump: name,
            set,
        }
    }

    /// Verifies the dump `name`.
    pub(super) fn check(&self, name: &str, depth: Depth, session: &mut Session<'_>) -> Check {
        let path = self.directory.join(name);
        match path.metadata() {
            Ok(found) if found.is_file() => {}
            // Reading a pipe would block.
            Ok(_) => return Check::failed(depth, &Failure::could_not("not a regular file")),
            Err(e) => return Check::failed(depth, &Failure::from(e)),
        }
        let subject = match Subject::open(&path, session) {
            Ok(subject) => subject,
            Err(failure) => return Check::failed(depth, &failure),
        };
        let options = Options::default()
            .depth(depth)
            .threads(crate::args::threads(None))
            .memory(session.env.memory);
        let quick = depth == Depth::Quick;
        let bar = session.bar("verify", quick, Some(0).filter(|_| quick));
        match subject.check_pack(depth, &bar) {
            Ok(()) => Check::of(&subject.verify(options, &bar)),
            Err(failure) => Check::failed(depth, &failure),
        }
    }

    /// Disk space of all files that are listed.
    pub(super) fn disk_size(&self) -> u64 {
        let files = self.sets.values().flatten();
        files.map(|(_, found)| disk_size(found)).sum()
    }
}

/// Disk space of a file.
pub(super) fn disk_size(found: &Metadata) -> u64 {
    found.blocks().saturating_mul(512)
}
