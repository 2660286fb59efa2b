//! `--limit`: leaves out files to keep the size of a pack below a limit.

use std::io;
use std::sync::Arc;

use livecore_compress::{Encoding, Progress, Shape, encode_at};
use livecore_minidump::pack::{self, Archive, Kind, Manifest};

use crate::failure::Failure;
use crate::id::Id;
use crate::text::Bytes;

use super::collect::Collected;

/// Leaves out files until the estimated size is at most `limit` bytes.
///
/// # Errors
///
/// The dump alone is larger than the limit, or a file cannot be read.
pub(super) fn apply(
    collected: &mut Collected,
    limit: u64,
    encoding: &Encoding,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    // The size of the files that are never left out is exact.
    let mut needed = Manifest {
        members: Vec::new(),
        ..collected.manifest.clone()
    };
    let mut contents = Vec::new();
    for (member, content) in collected.manifest.members.iter().zip(&collected.contents) {
        if rank(member.kind, &member.name).is_none() {
            needed.members.push(member.clone());
            contents.push(Arc::clone(content));
        }
    }
    let archive = Archive::new(&needed, &contents)?;
    let least = pack::write(&archive, encoding, &mut io::sink(), progress)?;
    if least > limit {
        return Err(too_large(least, limit));
    }
    let mut sizes = Vec::new();
    for (member, content) in collected.manifest.members.iter().zip(&collected.contents) {
        if rank(member.kind, &member.name).is_some() {
            let stored = encode_at(content, encoding, Shape::Frames, &mut io::sink(), progress)?;
            sizes.push((member.name.clone(), stored.stored_len));
        }
    }
    let mut total = sizes
        .iter()
        .fold(least, |sum, (_, size)| sum.saturating_add(*size));
    while total > limit {
        let dropped = drop_next(collected, limit)?;
        let size = sizes.iter().find(|(name, _)| *name == dropped);
        // What remains is within the limit when all are left out.
        total = total.saturating_sub(size.map_or(0, |(_, size)| *size));
    }
    Ok(())
}

/// Leaves out the file that is needed least, and returns its name.
///
/// # Errors
///
/// Only the dump and its info file are left.
pub(super) fn drop_next(collected: &mut Collected, limit: u64) -> Result<String, Failure> {
    let members = collected.manifest.members.iter().enumerate();
    let next = members
        .filter_map(|(index, member)| Some((rank(member.kind, &member.name)?, member.size, index)))
        .max();
    let Some((.., index)) = next else {
        return Err(too_large(collected.size(), limit));
    };
    let member = collected.manifest.members.remove(index);
    collected.contents.remove(index);
    let name = member.name.clone();
    collected.manifest.dropped.push(member);
    Ok(name)
}

/// How soon a file is left out: the greatest first. `None`: never.
fn rank(kind: Kind, name: &str) -> Option<u8> {
    match kind {
        Kind::Dump | Kind::Info => None,
        Kind::Kernel => Some(0),
        Kind::Debug if name.strip_suffix(".debug") == Some(pack::KERNEL) => Some(1),
        Kind::Module => Some(2),
        Kind::Debug => Some(3),
    }
}

fn too_large(least: u64, limit: u64) -> Failure {
    let what = format_args!(
        "a pack of the dump alone has {}, the limit is {}",
        Bytes(least),
        Bytes(limit)
    );
    Failure::could_not(what)
        .id_is(Id::TooLarge)
        .next("use a larger --limit")
}
