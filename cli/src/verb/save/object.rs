//! Saves to a prefix of an object store instead of a directory.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use livecore_compress::{Codec, InOrder, Output};
use livecore_livedump::publish::{Published, Stem};
use livecore_minidump::Error;

use super::plan::Plan;
use super::why::Why;
use crate::crash_directory::{companion_of, dump_name};
use crate::failure::Failure;
use crate::id::Id;
use crate::remote::is_prefix;
use crate::session::Session;

/// Fails unless `plan` can be carried out below a prefix.
pub(super) fn check(plan: &Plan<'_>) -> Result<(), Failure> {
    if !is_prefix(plan.directory) {
        let failure = Failure::usage("found an object, expected a prefix: s3://BUCKET/PREFIX/");
        return Err(failure.id_is(Id::InvalidValue).about(plan.directory));
    }
    if plan.max.is_some() {
        let failure = Failure::usage("--max cannot rotate objects of a store");
        return Err(failure.id_is(Id::ConflictingArguments));
    }
    Ok(())
}

/// The URL of `name` below the prefix.
fn below(prefix: &Path, name: &str) -> PathBuf {
    let prefix = prefix.to_string_lossy();
    format!("{}/{name}", prefix.trim_end_matches('/')).into()
}

/// The number after the largest that a dump or a file of a dump has directly below the prefix.
fn next_number(prefix: &Path, session: &Session<'_>) -> Result<u32, Failure> {
    let about = |e: std::io::Error| Failure::from(e).about(prefix);
    let listed = session.stores.list(prefix).map_err(about)?;
    let directory = below(prefix, "");
    let directory = directory.to_string_lossy();
    let numbers = listed.iter().filter_map(|object| {
        let url = object.path.to_string_lossy();
        let name = url.strip_prefix(&*directory)?;
        let of_companion = || companion_of(name)?.rsplit('.').next()?.parse().ok();
        dump_name(name)
            .map(|(_, number, _)| number)
            .or_else(of_companion)
    });
    let next = numbers
        .max()
        .map_or(Some(0), |number| number.checked_add(1));
    let next = next.and_then(|next| u32::try_from(next).ok());
    next.ok_or_else(|| Failure::could_not("no free number").about(prefix))
}

/// Writes the dump with `put` as an object with the next number, and then the key block and the info file.
/// `info` formats the latter.
pub(super) fn save<T>(
    plan: &Plan<'_>,
    (stem, codec): (Stem, Codec),
    (key, len): (Option<&[u8]>, Option<u64>),
    session: &Session<'_>,
    put: impl FnOnce(&mut dyn Output) -> Result<T, Error>,
    info: impl FnOnce(&T, u32) -> Vec<u8>,
) -> Result<(Published, T), Why> {
    let number = next_number(plan.directory, session)?;
    let name = format!("{}.{number}{}", stem.name(), codec.suffix());
    let path = below(plan.directory, &name);
    let mut upload = Box::new(session.stores.create(&path, len, false)?);
    let done = put(&mut InOrder(&mut *upload));
    let done = done.map_err(|e| upload.failure().map_or(Why::Input(e), Why::Output))?;
    upload.complete()?;
    if let Some(key) = key {
        small(
            &below(plan.directory, &format!("key.{number}")),
            key,
            session,
        )?;
    }
    let info = info(&done, number);
    small(
        &below(plan.directory, &format!("info.{number}")),
        &info,
        session,
    )?;
    let published = Published {
        path,
        number: Some(number),
        len: 0,
        notes: Vec::new(),
    };
    Ok((published, done))
}

/// Writes a small object.
fn small(path: &Path, bytes: &[u8], session: &Session<'_>) -> Result<(), Failure> {
    let len = Some(bytes.len() as u64);
    let mut upload = Box::new(session.stores.create(path, len, false)?);
    let written = upload.write_all(bytes);
    written.map_err(|e| upload.failure().unwrap_or_else(|| e.into()).about(path))?;
    upload.complete()
}
