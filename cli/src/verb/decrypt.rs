//! `livecore decrypt IN OUT`: decrypts an encrypted dump.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use livecore_compress::{Codec, Progress, ReadAt};
use livecore_livedump::publish::{self, Destination};
use livecore_minidump::encryption::{self, Encrypted};
use livecore_minidump::{AnyDump, Error, OpenOptions};
use serde::Serialize;

use crate::companion;
use crate::dump_args::NumberArg;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input;
use crate::output::{self, Begun};
use crate::session::Session;
use crate::text::Bytes;

const MANUAL: &str = "\
Examples:
  livecore decrypt --key private.pem vmcore_encrypted.0 vmcore.0.zst
  livecore decrypt --key private.pem da0p3.img vmcore.0

Writes the data as it was before encryption, as decryptcore(8) does: the payload, compressed if the \
kernel compressed it. IN is a file of savecore(8) or netdumpd with its key file (key.N) in the same \
directory, an image of a dump device, or a file that livecore encrypted (the result is a sealed file, or with AES-256-CBC an uncompressed dump). \
OUT appears only if the result is a dump.

All verbs that read dumps read encrypted ones directly, with --key. `livecore convert --key PRIVATE.pem IN OUT` \
writes a sealed dump.";

/// Arguments of `livecore decrypt`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Encrypted dump, or directory with dumps; `-` for standard input
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The number of the dump.
    #[command(flatten)]
    pub number: NumberArg,
    /// Output file; `-` for standard output
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Replace OUT if it exists
    #[arg(short, long)]
    pub force: bool,
    /// Print a JSON report of what was written (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// The report, docs/schemas/decrypt.schema.json.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    cipher: &'static str,
    codec: &'static str,
    file_size: u64,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let destination = Destination::parse(&args.output);
    if matches!(destination, Destination::Directory(_)) {
        return Err(Failure::usage("OUT must be a file, not a directory")
            .id_is(Id::OutputIsDirectory)
            .about(&args.output));
    }
    output::check_stdout(&destination, args.json, session)?;
    let (encrypted, plain) = open(args, session)?;
    let len = plain.size()?;
    let mut head = [0; 8];
    let got = plain.read_full_at(&mut head, 0)?;
    let codec = Codec::sniff(&head[..got]);
    let options = publish::Options::of_dump(codec, Some(len)).force(args.force);
    let bar = session.bar("decrypt", args.json, Some(len));
    let path = match output::begin(&destination, &options, session)? {
        Begun::File(mut pending) => {
            copy(&*plain, &mut *pending, &bar).map_err(|failure| failure.about(&args.input))?;
            // Only a dump in a directory has an info file.
            pending.publish(&|_| Vec::new())?.path
        }
        Begun::Object(mut upload) => {
            let copied = copy(&*plain, &mut *upload, &bar);
            copied.map_err(|e| upload.failure().unwrap_or(e).about(&args.input))?;
            let path = upload.path().to_owned();
            upload.complete()?;
            path
        }
        Begun::Stdout => {
            copy(&*plain, &mut session.out, &bar)?;
            PathBuf::from("-")
        }
    };
    drop(bar);
    let report = Report {
        path: path.display().to_string(),
        cipher: encrypted.cipher().name(),
        codec: codec.name(),
        file_size: len,
    };
    if args.json {
        crate::json::print(&report, &mut session.out)?;
        return Ok(());
    }
    session.voice.say(
        Id::Written,
        format_args!(
            "{}: {}, decrypted with {}",
            report.path,
            Bytes(len),
            report.cipher
        ),
    );
    Ok(())
}

/// Opens the dump and checks that its data is a dump after decryption.
fn open(args: &Args, session: &mut Session<'_>) -> Result<(Encrypted, Arc<dyn ReadAt>), Failure> {
    let about = |error: Error| Failure::from(error).about(&args.input);
    let file: Arc<dyn ReadAt> = input::source(&args.input, session)?.into();
    let key_file = companion::key_file(&args.input, &session.stores)?;
    let stream = session.stream_options(None);
    let found = encryption::locate(&file, key_file.as_ref(), &stream).map_err(about)?;
    let Some(found) = found else {
        let failure = Failure::new(Exit::UNSUPPORTED, "not an encrypted dump");
        return Err(failure
            .about(&args.input)
            .next("a file of savecore(8) needs its key file (key.N) in the same directory"));
    };
    let options = OpenOptions::new()
        .stream(stream)
        .bitmap_limit(session.env.memory)
        .key(session.env.key.clone())
        .key_file(key_file);
    let dump = AnyDump::from_source(Arc::clone(&file), &options).map_err(about)?;
    for warning in dump.envelope().warnings() {
        session.warn_of(&args.input, warning);
    }
    let plain = found.decrypt(session.env.key.as_deref()).map_err(about)?;
    Ok((found, plain))
}

fn copy(from: &dyn ReadAt, to: &mut dyn Write, progress: &dyn Progress) -> Result<(), Failure> {
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        if progress.cancelled() {
            return Err(livecore_compress::Error::Cancelled.into());
        }
        let got = from.read_full_at(&mut piece, at)?;
        if got == 0 {
            return Ok(());
        }
        to.write_all(&piece[..got])?;
        at += got as u64;
        progress.advance(got as u64, got as u64);
    }
}
