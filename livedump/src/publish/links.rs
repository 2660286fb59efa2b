//! The links to the newest dump: `livecore.last*`, `vmcore.last*`, `info.last` and others.

use super::directory::Directory;
use super::numbers::split;
use super::{Notice, Stem};

/// The links that only livecore sets.
const OURS: [&str; 3] = ["livecore.last", "livecore.last.gz", "livecore.last.zst"];

/// Links to dump `number`, whose file has `suffix`. Returns notes about links that could not be
/// set; the dump is complete without them.
///
/// Of `livecore.last` and its two suffixed forms, the one with `suffix` is set and the others are
/// removed. `info.last` is shared with savecore(8): it is set only if it is missing or points to
/// the `info.N` of a livecore dump. Other links, and files in place of links, are not changed.
pub(super) fn update(directory: &Directory, number: u32, suffix: &str) -> Vec<Notice> {
    let mut notes = Vec::new();
    let ours = format!("livecore.last{suffix}");
    for name in OURS.into_iter().filter(|name| *name != ours) {
        if directory.link_target(name).is_some()
            && let Err(e) = directory.remove(name)
        {
            notes.push(Notice::link_failed("remove", name, &e));
        }
    }
    set(
        directory,
        &format!("livecore.{number}{suffix}"),
        &ours,
        &mut notes,
    );
    match directory.link_target("info.last") {
        Some(target) if !is_ours(directory, &target.to_string_lossy()) => {
            notes.push(Notice::LinkKept {
                name: "info.last",
                target: target.to_string_lossy().into_owned(),
            });
        }
        _ => set(
            directory,
            &format!("info.{number}"),
            "info.last",
            &mut notes,
        ),
    }
    notes
}

/// Links to dump `number` of a crashed system, which has `stem` and a suffix as its name, and to its key.
/// All other links to newest dumps are removed, as savecore(8) does. Returns notes as [`update`] does.
pub(super) fn replace(
    directory: &Directory,
    number: u32,
    (stem, suffix): (Stem, &str),
    has_key: bool,
) -> Vec<Notice> {
    let mut notes = Vec::new();
    let stem = stem.name();
    let mut links = vec![
        (
            format!("{stem}.last{suffix}"),
            format!("{stem}.{number}{suffix}"),
        ),
        ("info.last".into(), format!("info.{number}")),
    ];
    if has_key {
        links.push(("key.last".into(), format!("key.{number}")));
    }
    for (name, target) in &links {
        set(directory, target, name, &mut notes);
    }
    let all = Stem::ALL.iter().flat_map(|stem| {
        let name = stem.name();
        ["", ".gz", ".zst"].map(|suffix| format!("{name}.last{suffix}"))
    });
    for name in all.chain(["key.last".into()]) {
        if links.iter().all(|(new, _)| *new != name)
            && directory.link_target(&name).is_some()
            && let Err(e) = directory.remove(&name)
        {
            notes.push(Notice::link_failed("remove", &name, &e));
        }
    }
    notes
}

/// Makes `name` a link to `target`, unless it is a file. Adds a note if it is not set.
pub(crate) fn set(directory: &Directory, target: &str, name: &str, notes: &mut Vec<Notice>) {
    if directory.has(name) && directory.link_target(name).is_none() {
        notes.push(Notice::NotALink { name: name.into() });
    } else if let Err(e) = directory.symlink(target, name) {
        notes.push(Notice::link_failed("create", name, &e));
    }
}

/// Whether `target` is the `info.N` of a livecore dump.
fn is_ours(directory: &Directory, target: &str) -> bool {
    let Some(("info", number)) = split(target) else {
        return false;
    };
    ["", ".gz", ".zst"]
        .iter()
        .any(|suffix| directory.has(format!("livecore.{number}{suffix}")))
}
