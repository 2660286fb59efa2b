//! `livecore export --encrypted DUMP DIR`: the files that savecore(8) writes of an encrypted dump.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use livecore_compress::{Codec, Progress as _, ReadAt};
use livecore_livedump::publish::{self, Destination};
use livecore_minidump::encryption::{self, Encrypted};

use super::Args;
use crate::companion;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input;
use crate::session::Session;
use crate::text::Bytes;
use crate::unpack;

/// Runs the verb.
pub(super) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let Destination::Directory(directory) = Destination::parse(&args.output) else {
        return Err(Failure::usage("--encrypted needs a directory as OUT")
            .id_is(Id::InvalidValue)
            .about(&args.output));
    };
    let about = |failure: Failure| failure.about(&args.dump);
    let file: Arc<dyn ReadAt> = input::source(&args.dump, session)?.into();
    let key_file = companion::key_file(&args.dump, &session.stores)?;
    let stream = session.stream_options(None);
    let found = encryption::locate(&file, key_file.as_ref(), &stream);
    let Some(found) = found.map_err(|e| about(e.into()))? else {
        return Err(about(Failure::new(
            Exit::UNSUPPORTED,
            "not an encrypted dump",
        )));
    };
    let number = unpack::number_of(&args.dump);
    let path = |name: &str| directory.join(format!("{name}.{number}"));
    // The key first: without it, the data is lost.
    let key = key_block(&found);
    write(&path("key"), args.force, &key, session).map_err(about)?;
    let data = &*found.data;
    let len = write(&path("vmcore_encrypted"), args.force, data, session).map_err(about)?;
    if let Some((header, _)) = &found.header {
        let device = args.dump.display().to_string();
        let text = publish::info::text(header, &device, number);
        write(&path("info"), args.force, text.as_bytes(), session)?;
        let names = ["vmcore_encrypted", "key", "info"];
        unpack::announce(&directory, number, &names, session)?;
    }
    let path = path("vmcore_encrypted");
    if args.json {
        let report = serde_json::json!({
            "path": path.display().to_string(),
            "cipher": found.cipher().name(),
            "codec": found.header.as_ref().and_then(|(header, _)| header.codec()).map(Codec::name),
            "file_size": len,
        });
        crate::json::print(&report, &mut session.out)?;
        return Ok(());
    }
    let line = format_args!(
        "{}: {}, encrypted with {}",
        path.display(),
        Bytes(len),
        found.cipher()
    );
    session.voice.say(Id::Written, line);
    Ok(())
}

/// The key block with its padding.
fn key_block(found: &Encrypted) -> Vec<u8> {
    // A key block is less than a sector of 16 KiB longer than the largest key.
    let unit = found
        .header
        .as_ref()
        .map_or(512, |(header, _)| header.blocksize);
    found.block.encode(unit.min(1 << 14))
}

/// Writes `data` to the file `to`, which gets its name when it is complete. Returns the size.
fn write(
    to: &Path,
    force: bool,
    data: &(impl ReadAt + ?Sized),
    session: &mut Session<'_>,
) -> Result<u64, Failure> {
    let len = data.size()?;
    let options = publish::Options::of_dump(Codec::None, Some(len)).force(force);
    let bar = session.bar("export", false, Some(len));
    let mut pending = Destination::File(to.into()).begin(&options)?;
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        if bar.cancelled() {
            return Err(livecore_compress::Error::Cancelled.into());
        }
        let got = data.read_full_at(&mut piece, at)?;
        if got == 0 {
            break;
        }
        pending.write_all(&piece[..got])?;
        at += got as u64;
        bar.advance(got as u64, got as u64);
    }
    // Only a dump in a directory has an info file.
    pending.publish(&|_| Vec::new())?;
    Ok(len)
}
