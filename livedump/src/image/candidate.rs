//! A file that may be an image, for the probes of the formats.

use std::cell::OnceCell;
use std::path::Path;

use livecore_defs::foreign::HEAD;
use livecore_minidump::Error;
use livecore_minidump::elf::core::Note;

use super::elf::ElfImage;
use super::memory_image::Image;
use super::options::Options;
use super::source::Source;

/// A format: a row of the table in `open.rs`.
pub(super) struct Row {
    /// Whether a file has this format. `false` means another format; a broken file of this format
    /// is an error.
    pub(super) probe: fn(&Candidate<'_>) -> Result<bool, Error>,
    /// Opens the file.
    pub(super) open: fn(&Candidate<'_>) -> Result<Image, Error>,
}

/// A file to probe. Data that several probes need is read once.
pub(super) struct Candidate<'a> {
    /// The path, if there is one.
    pub(super) path: Option<&'a Path>,
    pub(super) options: &'a Options,
    source: OnceCell<Source>,
    elf: OnceCell<Option<ElfImage>>,
    notes: OnceCell<Vec<Note>>,
}

impl<'a> Candidate<'a> {
    /// The file at `path`, opened when a probe reads it.
    pub(super) fn at(path: &'a Path, options: &'a Options) -> Self {
        Self {
            path: Some(path),
            options,
            source: OnceCell::new(),
            elf: OnceCell::new(),
            notes: OnceCell::new(),
        }
    }

    /// Bytes without a path.
    pub(super) fn of(source: Source, options: &'a Options) -> Self {
        Self {
            path: None,
            options,
            source: source.into(),
            elf: OnceCell::new(),
            notes: OnceCell::new(),
        }
    }

    /// The contents.
    pub(super) fn source(&self) -> Result<&Source, Error> {
        if let Some(source) = self.source.get() {
            return Ok(source);
        }
        // A candidate without a path has its bytes.
        let opened = Source::open(self.path.unwrap_or(Path::new("")), self.options)?;
        Ok(self.source.get_or_init(|| opened))
    }

    /// The first bytes, padded with zeros.
    pub(super) fn head(&self) -> Result<[u8; HEAD], Error> {
        self.source()?.head()
    }

    /// The ELF headers, if the file is an ELF core.
    pub(super) fn elf(&self) -> Result<Option<&ElfImage>, Error> {
        if let Some(elf) = self.elf.get() {
            return Ok(elf.as_ref());
        }
        let elf = ElfImage::read(self.source()?, self.options)?;
        Ok(self.elf.get_or_init(|| elf).as_ref())
    }

    /// The notes of an ELF core; empty if the file is not ELF.
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
