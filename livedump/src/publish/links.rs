//! `livecore.last*` and `info.last`: the newest dump under a fixed name.

use super::directory::Directory;
use super::numbers::split;

/// The links that are ours whatever they point at.
const OURS: [&str; 3] = ["livecore.last", "livecore.last.gz", "livecore.last.zst"];

/// Points the links at dump `number`, whose file has `suffix`. What could not be done is said in
/// the result; the dump is complete without its links.
///
/// `livecore.last` and its two suffixed forms are ours: the fitting one is set, the others go.
/// `info.last` is shared with savecore(8) and moves only if it is absent or points to the
/// `info.N` of a dump of ours. Other links are left alone, and so is a file that is no link.
pub(super) fn update(directory: &Directory, number: u32, suffix: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let ours = format!("livecore.last{suffix}");
    for name in OURS.into_iter().filter(|name| *name != ours) {
        if directory.link_target(name).is_some()
            && let Err(e) = directory.remove(name)
        {
            notes.push(format!("{name} could not be removed: {e}"));
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
            notes.push(format!(
                "info.last points to {} and stays",
                target.to_string_lossy()
            ));
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

fn set(directory: &Directory, target: &str, name: &str, notes: &mut Vec<String>) {
    if directory.has(name) && directory.link_target(name).is_none() {
        notes.push(format!("{name} is no link and stays"));
    } else if let Err(e) = directory.symlink(target, name) {
        notes.push(format!("{name} could not be made: {e}"));
    }
}

/// Whether `target` is the `info.N` of a number whose dump is a livecore.
fn is_ours(directory: &Directory, target: &str) -> bool {
    let Some(("info", number)) = split(target) else {
        return false;
    };
    ["", ".gz", ".zst"]
        .iter()
        .any(|suffix| directory.has(format!("livecore.{number}{suffix}")))
}
