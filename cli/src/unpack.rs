//! Unpacks a dump as savecore(8) would have written it: an uncompressed, sparse `vmcore.N` and
//! `info.N`.

use std::fs;
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use livecore_compress::{Codec, Encoding, Output, Progress};
use livecore_livedump::publish::{self, Destination, free};
use livecore_minidump::convert::{self, Target};
use livecore_minidump::info::name_after_prefix;
use livecore_minidump::{AnyDump, Container, HeaderOrigin, KernelDumpHeader};

use crate::failure::Failure;
use crate::id::Id;
use crate::output;
use crate::session::Session;
use crate::text::Short;

/// Space for `info.N` and the report of crashinfo(8), in bytes.
const EXTRA: u64 = 16 << 20;

/// The number in a dump's name (`vmcore.3.zst`, `vmcore.HOST.3`, `vmcore.3.encrypted`): the last part
/// that is one; 0 if there is none.
pub(crate) fn number_of(dump: &Path) -> u32 {
    let name = dump.file_name().map(|name| name.to_string_lossy());
    let number = name.as_deref().and_then(name_after_prefix);
    let parts = number.into_iter().flat_map(|rest| rest.rsplit('.'));
    parts.flat_map(str::parse).next().unwrap_or(0)
}

/// Size of the uncompressed dump: the known size, or else the size according to its headers.
pub(crate) fn len(dump: &AnyDump) -> u64 {
    dump.envelope().known_len().unwrap_or_else(|| dump.end())
}

/// The first of `candidates` with enough space for the dump. The error lists all of them.
pub(crate) fn with_space(candidates: &[PathBuf], len: u64) -> Result<PathBuf, Failure> {
    let needed = len.saturating_add(EXTRA);
    let mut tried = Vec::new();
    for candidate in candidates {
        match free::available(candidate) {
            Ok(free) if free >= needed => return Ok(candidate.clone()),
            Ok(free) => tried.push(format!("{} has {}", candidate.display(), Short(free))),
            Err(error) if candidates.len() == 1 => return Err(error.into()),
            Err(error) => tried.push(error.to_string()),
        }
    }
    let what = format!(
        "not enough space to unpack {}: {}",
        Short(needed),
        tried.join(", ")
    );
    Err(Failure::could_not(what)
        .id_is(Id::NoSpace)
        .next("use --dir DIR with more space"))
}

/// Unpacks the dump to the file `to`.
pub(crate) fn write(
    dump: &AnyDump,
    name: &Path,
    to: &Path,
    (threads, force): (Option<NonZeroUsize>, bool),
    session: &mut Session<'_>,
) -> Result<output::Report, Failure> {
    let target = Target {
        container: Container::Saved,
        encoding: Encoding::new(Codec::None).threads(crate::args::threads(threads)),
    };
    let options = publish::Options::of_dump(Codec::None, Some(len(dump))).force(force);
    let destination = Destination::File(to.into());
    let bar = session.bar("unpack", false, Some(len(dump)));
    let mut write = |out: &mut dyn Output, progress: &dyn Progress| {
        convert::convert_any(dump, &target, out, progress)
    };
    let written: Result<output::Report, Failure> = output::write(
        &destination,
        &options,
        &target,
        "",
        &bar,
        session,
        &mut write,
    );
    drop(bar);
    written.map_err(|failure| failure.about(name))
}

/// The header for an info file of the unpacked dump.
fn header(dump: &AnyDump) -> KernelDumpHeader {
    KernelDumpHeader {
        dumplength: len(dump),
        dumpextent: len(dump),
        compression: 0,
        ..dump.header_or_made()
    }
    .with_parity()
}

/// Whether the dump has no header of its own: it is absent or was made from the payload.
pub(crate) fn is_made_up(dump: &AnyDump) -> bool {
    matches!(
        dump.envelope().header_origin(),
        HeaderOrigin::Absent | HeaderOrigin::SealFromPayload
    )
}

/// Whether two paths name the same file.
pub(crate) fn is_same(a: Option<&Path>, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    a.and_then(real)
        .is_some_and(|a| real(b).is_some_and(|b| a == b))
}

/// Removes a file if it exists.
pub(crate) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Failure::from(e).about(path)),
        _ => Ok(()),
    }
}

/// Makes crashinfo(8) and savecore(8) find dump `number` of `directory`: increases `bounds`, and
/// links `NAME.last` to `NAME.number` for each of `names`.
pub(crate) fn announce(
    directory: &Path,
    number: u32,
    names: &[&str],
    session: &Session<'_>,
) -> Result<(), Failure> {
    let bounds = directory.join("bounds");
    let next = fs::read_to_string(&bounds)
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .unwrap_or(0);
    if next > number {
        // The last dump is newer than this one.
        return Ok(());
    }
    let options = publish::Options::default().force(true);
    let mut pending = Destination::File(bounds.clone()).begin(&options)?;
    writeln!(pending, "{}", number + 1).map_err(|e| Failure::from(e).about(&bounds))?;
    // Only a dump in a directory has an info file.
    pending.publish(&|_| Vec::new())?;
    for name in names {
        let link = directory.join(format!("{name}.last"));
        match link.symlink_metadata() {
            Ok(found) if !found.is_symlink() => {
                let line = format_args!("{}: not a link; left unchanged", link.display());
                session.voice.say(Id::LinkKept, line);
                continue;
            }
            Ok(_) => remove(&link)?,
            Err(_) => {}
        }
        std::os::unix::fs::symlink(format!("{name}.{number}"), &link)
            .map_err(|e| Failure::from(e).about(&link))?;
    }
    Ok(())
}

/// Writes the info file: a copy of the dump's own one, or else one made from the header.
pub(crate) fn write_info(
    dump: &AnyDump,
    name: &Path,
    to: &Path,
    number: u32,
) -> Result<(), Failure> {
    let packed = dump.envelope().pack().and_then(|pack| pack.info());
    let text = match dump.envelope().header_origin() {
        HeaderOrigin::Info(_) if packed.is_some() => packed.unwrap_or_default().into_bytes(),
        HeaderOrigin::Info(path) => {
            livecore_minidump::info::read(path).map_err(|e| Failure::from(e).about(path))?
        }
        _ if is_made_up(dump) => {
            let device = name.display().to_string();
            let unknown = "unknown";
            let header = header(dump);
            livecore_minidump::info::render(&header, &device, number.into(), unknown, unknown)
                .into_bytes()
        }
        _ => publish::info::text(&header(dump), &name.display().to_string(), number).into_bytes(),
    };
    let about = |e: std::io::Error| Failure::from(e).about(to);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(about)?;
    file.write_all(&text).map_err(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_is_that_of_the_dumps_name() {
        for (name, number) in [
            ("/var/crash/vmcore.3.zst", 3),
            ("livecore.12", 12),
            ("vmcore.last", 0),
            ("core", 0),
            ("-", 0),
        ] {
            assert_eq!(number_of(Path::new(name)), number, "{name}");
        }
    }

    #[test]
    fn lack_of_space_names_every_candidate() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().to_owned();
        assert_eq!(with_space(std::slice::from_ref(&here), 1).unwrap(), here);
        let error = with_space(&[here.clone(), "/no/such".into()], u64::MAX).unwrap_err();
        let line = error.to_string();
        assert!(line.contains(here.to_str().unwrap()), "{line}");
        assert!(
            line.contains("/no/such") && line.contains("--dir"),
            "{line}"
        );
    }
}
