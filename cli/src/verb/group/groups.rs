//! Crashes by signature.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use livecore_kernel::Signature;
use livecore_minidump::info::utc;
use serde::Serialize;

use crate::crash::{Crash, SignatureFacts};

/// Crashes with the same signature, or all without one.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    pub(super) signature: Option<SignatureFacts>,
    pub(super) count: usize,
    /// Seconds since 1970.
    pub(super) first_seen: u64,
    first_seen_utc: String,
    pub(super) last_seen: u64,
    last_seen_utc: String,
    /// The different host names.
    hosts: BTreeSet<String>,
    /// The newest dump.
    pub(super) example: String,
    /// Its panic message.
    pub(super) panic: Option<String>,
    /// The frames of the signature.
    pub(super) frames: Vec<String>,
    /// All dumps, in the order of the arguments.
    dumps: Vec<String>,
}

/// The groups of the crashes so far.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<Option<Signature>, Group>);

impl Groups {
    /// Adds the crash in the dump `path`.
    pub(super) fn add(&mut self, path: &Path, crash: Crash) {
        let Crash { facts, signature } = crash;
        let (time, _) = facts.time_or_file(path);
        let name = path.display().to_string();
        let group = self.0.entry(signature).or_insert_with_key(|key| Group {
            signature: key.as_ref().map(SignatureFacts::from),
            count: 0,
            first_seen: time,
            first_seen_utc: String::new(),
            last_seen: time,
            last_seen_utc: String::new(),
            hosts: BTreeSet::new(),
            example: String::new(),
            panic: None,
            frames: key.as_ref().map_or(Vec::new(), |key| key.frames().to_vec()),
            dumps: Vec::new(),
        });
        if group.count == 0 || time >= group.last_seen {
            group.last_seen = time;
            group.example.clone_from(&name);
            group.panic = facts.panic;
        }
        group.count += 1;
        group.first_seen = group.first_seen.min(time);
        group
            .hosts
            .extend(facts.hostname.filter(|host| !host.is_empty()));
        group.dumps.push(name);
    }

    /// The groups, the largest and newest first, those without a signature last.
    pub(super) fn sorted(self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.0.into_values().collect();
        for group in &mut groups {
            group.first_seen_utc = utc(group.first_seen);
            group.last_seen_utc = utc(group.last_seen);
        }
        groups.sort_by_key(|group| {
            let order = (Reverse(group.count), Reverse(group.last_seen));
            (group.signature.is_none(), order)
        });
        groups
    }
}
