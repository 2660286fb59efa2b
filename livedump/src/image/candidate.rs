//! A file that may be an image, as the probes of the formats see it.

use std::cell::OnceCell;
use std::path::Path;

use livecore_defs::foreign::HEAD;
use livecore_minidump::Error;
use livecore_minidump::elf::core::Note;

use super::elf::ElfImage;
use super::memory_image::Image;
use super::options::Options;
use super::source::Source;

/// One format: a row of the table in `open.rs`.
pub(super) struct Row {
    /// Whether a file is of this format. "Not this format" is `false`, a file that is of it and
    /// broken is an error.
    pub(super) probe: fn(&Candidate<'_>) -> Result<bool, Error>,
    /// Opens it.
    pub(super) open: fn(&Candidate<'_>) -> Result<Image, Error>,
}

/// A file that is looked at. What several probes need is read once.
pub(super) struct Candidate<'a> {
    /// Its name, if it has one.
    pub(super) path: Option<&'a Path>,
    pub(super) options: &'a Options,
    source: OnceCell<Source>,
    elf: OnceCell<Option<ElfImage>>,
    notes: OnceCell<Vec<Note>>,
}

impl<'a> Candidate<'a> {
    /// The file at `path`, which is opened when a probe wants to see it.
    pub(super) fn at(path: &'a Path, options: &'a Options) -> Self {
        Self {
            path: Some(path),
            options,
            source: OnceCell::new(),
            elf: OnceCell::new(),
            notes: OnceCell::new(),
        }
    }

    /// Bytes without a name.
    pub(super) fn of(source: Source, options: &'a Options) -> Self {
        Self {
            path: None,
            options,
            source: source.into(),
            elf: OnceCell::new(),
            notes: OnceCell::new(),
        }
    }

    /// The bytes.
    pub(super) fn source(&self) -> Result<&Source, Error> {
        if let Some(source) = self.source.get() {
            return Ok(source);
        }
        // What has no name has bytes.
        let opened = Source::open(self.path.unwrap_or(Path::new("")), self.options)?;
        Ok(self.source.get_or_init(|| opened))
    }

    /// The first bytes, zeros after the end.
    pub(super) fn head(&self) -> Result<[u8; HEAD], Error> {
        self.source()?.head()
    }

    /// The ELF headers, if it is an ELF core.
    pub(super) fn elf(&self) -> Result<Option<&ElfImage>, Error> {
        if let Some(elf) = self.elf.get() {
            return Ok(elf.as_ref());
        }
        let elf = ElfImage::read(self.source()?, self.options)?;
        Ok(self.elf.get_or_init(|| elf).as_ref())
    }

    /// The notes of an ELF core; none if it is no ELF.
    pub(super) fn notes(&self) -> Result<&[Note], Error> {
        if let Some(notes) = self.notes.get() {
            return Ok(notes);
        }
        let notes = match self.elf()? {
            Some(elf) => elf.notes(self.source()?, self.options)?,
            None => Vec::new(),
        };
        Ok(self.notes.get_or_init(|| notes))
    }
}
