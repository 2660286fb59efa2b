//! Writes a file to the crash directory.

use std::path::{Path, PathBuf};

use livecore_compress::{Codec, Encoding, InOrder, Output, Progress, ReadAt, Shape, encode_at};
use livecore_livedump::publish::{
    self, Destination, PublishError, Published, Sink, Stem, WriteError, free,
};
use livecore_minidump::convert::Written;
use livecore_minidump::encryption::Sealer;
use livecore_minidump::{Error, KernelDumpHeader};

use super::object;
use super::place::Place;
use super::plan::Plan;
pub(super) use super::why::Why;
use crate::failure::Failure;
use crate::id::Id;
use crate::remote::is_remote;
use crate::session::Session;

/// Bytes of `info.N` and of rounding, as savecore(8) counts them.
const EXTRA: u64 = 2048;

/// A file in the directory.
pub(super) struct File {
    pub path: PathBuf,
    pub number: u32,
    pub stem: Stem,
    pub codec: Codec,
    /// Size of the dump before compression.
    pub payload_len: u64,
    pub len: u64,
}

/// Writes a dump to an output with a target.
pub(super) type Writer<'a> = dyn Fn(
        &livecore_minidump::convert::Target,
        &mut dyn Output,
        &dyn Progress,
    ) -> Result<Written, Error>
    + 'a;

/// Writes a sealed dump with `write`, encrypted if the plan has a key, and publishes it as `vmcore.N`.
pub(super) fn sealed(
    place: &Place,
    plan: &Plan<'_>,
    len: Option<u64>,
    write: &Writer<'_>,
    session: &mut Session<'_>,
) -> Result<File, Why> {
    let stem = match plan.encryption {
        Some(_) => Stem::Encrypted,
        None => Stem::Vmcore,
    };
    // An encrypted file has no suffix, as those of savecore(8): programs cannot decompress it.
    let codec = match plan.encryption {
        Some(_) => Codec::None,
        None => plan.target.encoding.codec,
    };
    let needed = len.filter(|_| plan.target.encoding.codec == Codec::None);
    let options = publish::Options::of_dump(codec, needed)
        .needed(needed.unwrap_or(0))
        .sparse(needed.is_some() && plan.encryption.is_none())
        .stem(stem)
        .max(plan.max);
    let bar = session.bar("save", plan.json, len);
    let encode = |out: &mut dyn Output, progress: &dyn Progress| match &plan.encryption {
        None => write(&plan.target, out, progress),
        Some((key, cipher)) => {
            let inner = Sealer::inner_target(*cipher, &plan.target)?;
            Sealer::new(key, *cipher)?.write(out, |out| write(&inner, out, progress))
        }
    };
    if is_remote(plan.directory) {
        let (device, status) = (place.device(), place.status());
        let info = |done: &Written, n| {
            let text = publish::info::with_status(&done.header, &device, n, status);
            (text + &done.provenance.info_lines()).into_bytes()
        };
        let put = |out: &mut dyn Output| encode(out, &bar);
        let saved = object::save(plan, (stem, codec), (None, needed), session, put, info);
        let (published, written) = saved?;
        let lens = (written.payload_len, written.file_len);
        return Ok(File::of(published, (stem, codec), lens, session));
    }
    let mut written = None;
    let result = begin(plan, &options).and_then(|mut sink| {
        let done = sink.write(|out| encode(out, &bar))?;
        let done = written.insert(done);
        let Sink::Pending(pending) = sink else {
            return Err(PublishError::ReaderGone { path: "-".into() }.into());
        };
        let (device, status) = (place.device(), place.status());
        let published = pending.publish(&|n| {
            let text = publish::info::with_status(&done.header, &device, n, status);
            (text + &done.provenance.info_lines()).into_bytes()
        });
        Ok(published?)
    });
    match (result, written) {
        (Ok(published), Some(written)) => {
            let (payload, len) = (written.payload_len, written.file_len);
            Ok(File::of(published, (stem, codec), (payload, len), session))
        }
        (Ok(_), None) => Err(Failure::could_not("nothing was written").into()),
        (Err(WriteError::Publish(error)), _) if is_full(&error) => {
            // The size of a compressed dump is not known before it was compressed.
            let mut nowhere = std::io::sink();
            let size = encode(&mut InOrder(&mut nowhere), &bar).map_err(Why::Input)?;
            Err(missing(plan, error, size.file_len).into())
        }
        (Err(WriteError::Publish(error)), _) => Err(Failure::from(error).into()),
        (Err(WriteError::Minidump(error)), _) => Err(Why::Input(error)),
    }
}

/// Copies the stored bytes `data` of a dump with `header`, compressed with `codec` if it is not
/// [`Codec::None`]. `suffix` is the codec in the name.
pub(super) fn copy(
    place: &Place,
    plan: &Plan<'_>,
    data: &dyn ReadAt,
    name: Name,
    header: &KernelDumpHeader,
    session: &mut Session<'_>,
) -> Result<File, Why> {
    let size = |e: std::io::Error| Why::Input(Error::io("read", e));
    let len = data.size().map_err(size)?;
    let options = publish::Options::of_dump(name.suffix, Some(len))
        .needed(if name.codec == Codec::None { len } else { 0 })
        .sparse(name.suffix == Codec::None && name.stem == Stem::Vmcore)
        .stem(name.stem)
        .max(plan.max);
    let bar = session.bar("save", plan.json, Some(len));
    let level = plan.level.filter(|_| name.codec != Codec::None);
    let encoding = Encoding::new(name.codec)
        .level(level)
        .threads(plan.target.encoding.threads);
    let encode = |out: &mut dyn Output| encode_at(data, &encoding, Shape::Single, out, &bar);
    let device = place.device();
    let status = place.status();
    let info = |n| publish::info::with_status(header, &device, n, status).into_bytes();
    if is_remote(plan.directory) {
        let kind = (name.stem, name.suffix);
        let put = |out: &mut dyn Output| encode(out).map_err(Error::from);
        let with = (name.key.as_deref(), Some(len));
        let saved = object::save(plan, kind, with, session, put, |_, n| info(n));
        let (published, stored) = saved?;
        return Ok(File::of(published, kind, (len, stored.stored_len), session));
    }
    let begun = begin(plan, &options).map_err(|e| match e {
        WriteError::Publish(error) if is_full(&error) => missing(plan, error, len).into(),
        other => Why::Output(Failure::from(other)),
    })?;
    let Sink::Pending(mut pending) = begun else {
        return Err(Failure::could_not("not a directory").into());
    };
    let stored = encode(&mut pending).map_err(|error| match error {
        livecore_compress::Error::Write(source) => {
            let error = PublishError::of_write(plan.directory, source);
            match is_full(&error) {
                true => missing(plan, error, len).into(),
                false => Why::Output(error.into()),
            }
        }
        other => Why::Input(other.into()),
    })?;
    let published = pending
        .publish_with_key(&info, name.key.as_deref())
        .map_err(|error| match is_full(&error) {
            true => missing(plan, error, stored.stored_len),
            false => error.into(),
        })?;
    let lens = (len, stored.stored_len);
    Ok(File::of(published, (name.stem, name.suffix), lens, session))
}

/// The name of a copy.
pub(super) struct Name {
    pub stem: Stem,
    /// The codec that compresses the copy.
    pub codec: Codec,
    /// The codec that the suffix names.
    pub suffix: Codec,
    /// The content of `key.N`.
    pub key: Option<Vec<u8>>,
}

impl File {
    fn of(
        published: Published,
        (stem, codec): (Stem, Codec),
        (payload_len, len): (u64, u64),
        session: &Session<'_>,
    ) -> Self {
        for note in &published.notes {
            session.voice.say(Id::of_notice(note), note);
        }
        Self {
            number: published.number.unwrap_or(0),
            path: published.path,
            stem,
            codec,
            payload_len,
            len,
        }
    }
}

fn begin(plan: &Plan<'_>, options: &publish::Options) -> Result<Sink<'static>, WriteError> {
    let destination = Destination::Directory(plan.directory.into());
    Ok(Sink::Pending(destination.begin(options)?))
}

fn is_full(error: &PublishError) -> bool {
    match error {
        PublishError::NotEnoughSpace { .. } => true,
        PublishError::NoSpace { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
        _ => false,
    }
}

/// The failure for a directory that lacks space for a file of `len` bytes. `error` is returned if
/// the space is sufficient now.
fn missing(plan: &Plan<'_>, error: PublishError, len: u64) -> Failure {
    let directory: &Path = plan.directory;
    let free = free::usable(directory).unwrap_or(0);
    let bytes = len.saturating_add(EXTRA).saturating_sub(free);
    if bytes == 0 {
        return error.into();
    }
    let what = format_args!(
        "not enough space: {bytes} bytes missing, {free} bytes available (without those that minfree reserves)"
    );
    Failure::could_not(what)
        .id_is(Id::NoSpace)
        .about(directory)
        .next("free some space; the dump is still on its device")
}

/// The codec of text dumps: gzip with `-z`, as savecore(8) compresses them.
pub(super) fn codec_of_text(plan: &Plan<'_>) -> Codec {
    match plan.target.encoding.codec {
        Codec::Gzip => Codec::Gzip,
        Codec::None | Codec::Zstd => Codec::None,
    }
}

impl Place {
    /// The device in `info.N`.
    fn device(&self) -> String {
        self.name.display().to_string()
    }

    /// The status of the headers in `info.N`.
    fn status(&self) -> &'static str {
        match self.dump.findings.is_empty() {
            true => "good",
            false => "bad",
        }
    }
}
