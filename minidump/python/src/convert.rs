//! Converts dumps.

use std::path::PathBuf;

use livecore_compress::{Codec, Encoding, Progress};
use livecore_livedump::conversion::{Conversion, Kind};
use livecore_livedump::publish::{Destination, Options, Output};
use livecore_minidump::Container;
use livecore_minidump::convert::Target;
use livecore_minidump::elf::notes::NoteStyle;
use pyo3::prelude::*;

use crate::failure::{Class, Failure};
use crate::opened::Opened;
use crate::verify::one_of;

/// What to write.
pub(crate) struct Request {
    out: PathBuf,
    kind: Option<Kind>,
    target: Target,
    style: NoteStyle,
    force: bool,
}

impl Request {
    pub(crate) fn new(
        out: PathBuf,
        to: Option<&str>,
        (codec, level): (Option<&str>, Option<i32>),
        container: Option<&str>,
        notes: &str,
        force: bool,
    ) -> PyResult<Self> {
        let kinds = [
            ("minidump", Kind::Minidump),
            ("full", Kind::Full),
            ("elf", Kind::Elf),
        ];
        let kind = to.map(|to| one_of("to", to, kinds)).transpose()?;
        let codecs = [Codec::None, Codec::Gzip, Codec::Zstd].map(|codec| (codec.name(), codec));
        let codec = match codec {
            Some(codec) => one_of("codec", codec, codecs)?,
            None => Codec::of_path(&out),
        };
        let containers = [Container::Sealed, Container::Saved, Container::Raw];
        let containers = containers.map(|container| (container.name(), container));
        let container = match container {
            Some(container) => one_of("container", container, containers)?,
            None => Kind::container(kind, codec),
        };
        let styles = [("freebsd", NoteStyle::FreeBsd), ("linux", NoteStyle::Linux)];
        let target = Target {
            container,
            encoding: Encoding::new(codec)
                .level(level)
                .threads(livecore_compress::OpenOptions::new().threads),
        };
        target.check().map_err(Failure::from)?;
        Ok(Self {
            out,
            kind,
            target,
            style: one_of("notes", notes, styles)?,
            force,
        })
    }
}

/// What `Dump.convert` wrote.
#[pyclass(frozen, module = "livecore", get_all)]
pub(crate) struct Written {
    /// The path of the file.
    path: PathBuf,
    /// The container of the file.
    container: &'static str,
    /// The codec of the file.
    codec: &'static str,
    /// The size of the payload in bytes, uncompressed.
    payload_size: u64,
    /// The size of the payload in the file.
    stored_size: u64,
    /// The size of the file in bytes.
    file_size: u64,
    /// What the file lacks, as texts.
    notes: Vec<String>,
}

#[pymethods]
impl Written {
    fn __repr__(&self) -> String {
        format!(
            "<livecore.Written {:?}: {} bytes>",
            self.path, self.file_size
        )
    }
}

/// Writes the dump as `request` specifies.
pub(crate) fn convert(
    opened: &Opened,
    request: &Request,
    progress: &dyn Progress,
) -> Result<Written, Failure> {
    let destination = Destination::parse(&request.out);
    if !matches!(destination, Destination::File(_)) {
        let text = format!("{}: not the name of a file", request.out.display());
        return Err(Failure::new(Class::Error, text));
    }
    let pair = match Conversion::uses_kernel(&opened.dump, request.kind) {
        true => opened.pair_if_found(),
        false => None,
    };
    let mut notes = Vec::new();
    let work = Conversion::plan(&opened.dump, request.kind, request.style, pair, &mut notes)?;
    let codec = request.target.encoding.codec;
    let options = Options::of_dump(codec, work.payload_len()).force(request.force);
    let mut sink = Output::Destination(&destination).begin(&options)?;
    let written = sink.write(|out| work.write(&request.target, out, progress))?;
    let published = sink.publish(&written, "")?;
    let notes = notes.iter().map(ToString::to_string);
    let notes = notes.chain(published.notes.iter().map(ToString::to_string));
    Ok(Written {
        path: published.path,
        container: request.target.container.name(),
        codec: codec.name(),
        payload_size: written.payload_len,
        stored_size: written.stored_len,
        file_size: written.file_len,
        notes: notes.collect(),
    })
}
