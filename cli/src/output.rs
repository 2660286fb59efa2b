//! Writes dumps to a file, a directory or standard output, and reports the result.

use std::io;
use std::path::Path;
use std::time::Duration;

use livecore_compress::{Codec, Encoding, Output, Progress};
use livecore_livedump::conversion::ConversionNote;
use livecore_livedump::publish::{self, Destination, Notice, Pending, Published, Sink};
use livecore_livedump::sys::pipe;
use livecore_minidump::Container;
use livecore_minidump::convert::{Target, Written};
use serde::Serialize;

use crate::args::{CodecArgs, ContainerArg};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::progress::Bar;
use crate::remote::{Upload, is_remote};
use crate::session::Session;
use crate::text::{Bytes, Short};

/// Suffixes of compressed files that livecore cannot write.
const OTHER_CODECS: [&str; 14] = [
    ".xz", ".lzma", ".bz2", ".lz4", ".lzo", ".lz", ".zip", ".7z", ".br", ".zz", ".Z", ".bz3",
    ".sz", ".rz",
];

/// The suffix of `path`, if it is that of a format that livecore cannot write.
pub(crate) fn other_codec(path: &Path) -> Option<&'static str> {
    let name = path.as_os_str().as_encoded_bytes();
    OTHER_CODECS
        .into_iter()
        .find(|suffix| name.ends_with(suffix.as_bytes()))
}

/// Compares the suffix of `path` with the codec of `args`.
///
/// # Errors
///
/// The suffix is that of a format that livecore cannot write, and `args` select no codec.
pub(crate) fn check_suffix(
    path: &Path,
    args: &CodecArgs,
    session: &Session<'_>,
) -> Result<(), Failure> {
    let other = other_codec(path);
    let of_name = match Codec::of_path(path) {
        Codec::None => other,
        codec => Some(codec.suffix()),
    };
    match (of_name, args.named()) {
        (Some(suffix), None) if other.is_some() => {
            let what = format_args!("cannot write the format of the suffix {suffix}");
            Err(Failure::usage(what)
                .id_is(Id::UnknownSuffix)
                .about(path)
                .next("use .gz or .zst, or --none, --gzip or --zstd"))
        }
        (Some(suffix), Some(codec)) if suffix != codec.suffix() => {
            session.voice.say(
                Id::SuffixDiffers,
                format_args!(
                    "{}: the suffix {suffix} does not match the compression, {}",
                    path.display(),
                    codec.name()
                ),
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The codec, level, frame size and container of the arguments, checked.
pub(crate) fn target(
    args: &CodecArgs,
    container: ContainerArg,
    default: Codec,
    session: &Session<'_>,
) -> Result<Target, Failure> {
    let encoding = Encoding::new(args.named().unwrap_or(default))
        .level(args.level)
        .frame_size(args.frame_size.unwrap_or(Encoding::FRAME_SIZE))
        .threads(crate::args::threads(args.threads));
    if encoding.codec == Codec::None && args.level.is_some() {
        let line = "--level has no effect without compression; use --gzip or --zstd";
        session.voice.say(Id::LevelUnused, line);
    }
    let target = Target {
        container: match container {
            ContainerArg::Sealed => Container::Sealed,
            ContainerArg::Saved => Container::Saved,
            ContainerArg::Raw => Container::Raw,
        },
        encoding,
    };
    target.check().map_err(|e| Failure::of(Exit::USAGE, &e))?;
    Ok(target)
}

/// Checks that standard output can take the dump: it is open, no terminal, and not used for a
/// report.
pub(crate) fn check_stdout(
    destination: &Destination,
    json: bool,
    session: &Session<'_>,
) -> Result<(), Failure> {
    if !destination.is_stdout() {
        return Ok(());
    }
    if !session.env.stdout_is_open {
        let failure = Failure::could_not("closed").id_is(Id::StreamClosed);
        return Err(failure.about(Path::new("standard output")));
    }
    if session.env.stdout_is_terminal {
        let failure = Failure::usage("refusing to write a binary dump to a terminal")
            .id_is(Id::BinaryToTerminal);
        return Err(failure.next("name an output file or redirect standard output"));
    }
    if json {
        return Err(Failure::usage(
            "--json needs an output file: standard output is used by the dump",
        )
        .id_is(Id::ConflictingArguments));
    }
    Ok(())
}

/// The result of writing a dump, as text and as docs/schemas/written.schema.json.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    path: String,
    number: Option<u32>,
    container: &'static str,
    codec: &'static str,
    payload_size: u64,
    stored_size: u64,
    file_size: u64,
    ratio: f64,
    seconds: f64,
    note_ids: Vec<Id>,
    notes: Vec<String>,
}

/// Writes a dump and reports progress.
pub(crate) type Writer<'a> =
    dyn FnMut(&mut dyn Output, &dyn Progress) -> Result<Written, livecore_minidump::Error> + 'a;

/// Writes a dump to `destination` with `write`, and publishes it when it is complete.
///
/// `info_device` is the device in `info.N`, for a dump in a directory.
pub(crate) fn write(
    destination: &Destination,
    options: &publish::Options,
    target: &Target,
    info_device: &str,
    bar: &Bar,
    session: &mut Session<'_>,
    write: &mut Writer<'_>,
) -> Result<Report, Failure> {
    let mut upload = None;
    let mut sink = match begin(destination, options, session)? {
        Begun::File(pending) => Sink::Pending(*pending),
        Begun::Stdout => Sink::Stream(&mut session.out),
        Begun::Object(begun) => Sink::Stream(&mut **upload.insert(begun)),
    };
    let published = match sink.write(|out| write(out, bar)) {
        Ok(written) => sink
            .publish(&written, info_device)
            .map(|published| (written, published))
            .map_err(Failure::from),
        Err(e) => Err(e.into()),
    };
    let (written, published) = match upload {
        Some(upload) => {
            let written = published.map_err(|e| upload.failure().unwrap_or(e))?.0;
            let published = complete(*upload, &written)?;
            (written, published)
        }
        None => published?,
    };
    Ok(report(&written, published, target, bar.elapsed()))
}

/// An output before the work.
pub(crate) enum Begun {
    /// A temporary file.
    File(Box<Pending>),
    /// Standard output.
    Stdout,
    /// An object.
    Object(Box<Upload>),
}

/// Completes the object, which then exists.
pub(crate) fn complete(upload: Upload, written: &Written) -> Result<Published, Failure> {
    let path = upload.path().to_owned();
    upload.complete()?;
    Ok(Published {
        path,
        number: None,
        len: written.file_len,
        notes: Vec::new(),
    })
}

/// Creates the temporary file or the object for `destination`, before the work.
pub(crate) fn begin(
    destination: &Destination,
    options: &publish::Options,
    session: &Session<'_>,
) -> Result<Begun, Failure> {
    if destination.is_stdout() {
        pipe::widen(io::stdout());
        return Ok(Begun::Stdout);
    }
    if let Destination::Directory(path) | Destination::File(path) = destination
        && is_remote(path)
    {
        // The size of a compressed dump is not known.
        let len = (options.needed > 0).then_some(options.needed);
        let upload = session.stores.create(path, len, options.force)?;
        return Ok(Begun::Object(Box::new(upload)));
    }
    if let Destination::Directory(path) = destination
        && !path.exists()
    {
        let failure = Failure::could_not("no such directory")
            .id_is(Id::NotFound)
            .about(path);
        return Err(failure.next("create it with mkdir(1)"));
    }
    Ok(Begun::File(Box::new(destination.begin(options)?)))
}

/// The report of a published dump.
pub(crate) fn report(
    written: &Written,
    published: Published,
    target: &Target,
    took: Duration,
) -> Report {
    Report {
        path: published.path.display().to_string(),
        number: published.number,
        container: target.container.name(),
        codec: target.encoding.codec.name(),
        payload_size: written.payload_len,
        stored_size: written.stored_len,
        file_size: written.file_len,
        ratio: ratio(written.payload_len, written.file_len),
        seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        note_ids: published.notes.iter().map(Id::of_notice).collect(),
        notes: published.notes.iter().map(Notice::to_string).collect(),
    }
}

impl Report {
    /// Prints the report: as JSON to standard output, or as a line to standard error.
    pub(crate) fn print(&self, json: bool, session: &mut Session<'_>) -> Result<(), Failure> {
        if json {
            crate::json::print(self, &mut session.out)?;
            return Ok(());
        }
        for (id, note) in self.note_ids.iter().zip(&self.notes) {
            session.voice.say(*id, note);
        }
        let rate = self.payload_size as f64 / self.seconds.max(0.001);
        let line = format_args!(
            "{}: {} payload, {} file, ratio {:.2}, {:.1} s, {}/s",
            self.path,
            Bytes(self.payload_size),
            Bytes(self.file_size),
            self.ratio,
            Duration::from_secs_f64(self.seconds).as_secs_f64(),
            Short(rate as u64),
        );
        session.voice.say(Id::Written, line);
        Ok(())
    }
}

/// Warns of pages that the dump lacks because the memory of `name` does not contain them.
pub(crate) fn warn_missing_pages(missing: u64, name: &Path, session: &mut Session<'_>) {
    if missing > 0 {
        session.warn(
            name,
            Id::PagesNotInImage,
            ConversionNote::PagesMissing(missing),
        );
    }
}

fn ratio(payload: u64, file: u64) -> f64 {
    (payload as f64 / file.max(1) as f64 * 100.0).round() / 100.0
}
