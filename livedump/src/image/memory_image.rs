//! An open image.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use livecore_compress::Codec;
use livecore_defs::amd64::PAGE_SIZE;
use livecore_minidump::{Error, PhysAddr, PhysMemory};

use super::cpu::CpuState;
use super::find;
use super::format::Format;
use super::options::Options;
use super::raw_layout::RawLayout;
use super::source::Source;

/// An open image.
pub struct Image {
    /// The format.
    pub format: Format,
    /// The compression of the file.
    pub codec: Codec,
    /// The memory.
    pub memory: Arc<dyn PhysMemory>,
    /// The CPUs, if the format has them.
    pub cpus: Vec<CpuState>,
    /// The file with the memory.
    pub ram: PathBuf,
    /// The kernel file, if a `machine.json` names one.
    pub kernel: Option<PathBuf>,
    /// The layout of a raw file.
    pub layout: Option<RawLayout>,
    /// Messages for the user.
    pub notes: Vec<String>,
    /// Set for a raw file whose layout is unknown.
    pub(super) guess: Option<Guess>,
}

/// A guessed layout, with what is needed to change it.
pub(super) struct Guess {
    source: Source,
    options: Options,
    /// The number of page tables that show its hole; `None` if they were not searched.
    votes: Option<u64>,
}

impl Guess {
    pub(super) fn new(source: &Source, options: &Options) -> Self {
        Self {
            source: source.clone(),
            options: options.clone(),
            votes: None,
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("format", &self.format)
            .field("codec", &self.codec)
            .field("ranges", &self.memory.ranges())
            .field("cpus", &self.cpus.len())
            .field("ram", &self.ram)
            .finish_non_exhaustive()
    }
}

impl Image {
    pub(super) fn new(format: Format, source: &Source, memory: impl PhysMemory + 'static) -> Self {
        Self {
            format,
            codec: source.codec(),
            memory: Arc::new(memory),
            cpus: Vec::new(),
            ram: PathBuf::new(),
            kernel: None,
            layout: None,
            notes: Vec::new(),
            guess: None,
        }
    }

    /// The length of a raw file with a guessed layout, and the number of page tables that show its
    /// hole; `None` if the layout is known.
    pub fn guess(&self) -> Option<(u64, u64)> {
        let guess = self.guess.as_ref()?;
        let len = guess.source.len();
        Some((len - len % PAGE_SIZE, guess.votes.unwrap_or(0)))
    }

    /// The memory of such a file up to 2 GiB, which has the same addresses in any layout.
    pub(crate) fn low(&self) -> Option<Arc<dyn PhysMemory>> {
        self.first(find::MIN_BELOW)
    }

    /// All memory of such a file in the flat layout.
    pub(crate) fn flat(&self) -> Option<Arc<dyn PhysMemory>> {
        self.first(u64::MAX)
    }

    fn first(&self, most: u64) -> Option<Arc<dyn PhysMemory>> {
        let guess = self.guess.as_ref()?;
        let end = self.guess()?.0.min(most);
        let layout = RawLayout::Ranges(vec![(PhysAddr(0)..PhysAddr(end), 0)]);
        let memory = layout.memory(&guess.source, &guess.options).ok()?;
        Some(Arc::new(memory))
    }

    /// Searches such a file for its layout, unless that was done.
    pub(crate) fn search_layout(&mut self) -> Result<(), Error> {
        let Some(guess) = self.guess.as_mut().filter(|guess| guess.votes.is_none()) else {
            return Ok(());
        };
        let found = find::layout(&guess.source)?;
        self.memory = Arc::new(found.layout.memory(&guess.source, &guess.options)?);
        self.layout = Some(found.layout);
        self.notes = found.note.into_iter().collect();
        guess.votes = Some(found.votes);
        Ok(())
    }

    /// Sets the layout of such a file; `note` is a message about how it was found.
    pub(crate) fn set_layout(
        &mut self,
        layout: RawLayout,
        note: Option<String>,
    ) -> Result<(), Error> {
        let Some(guess) = self.guess.take() else {
            return Ok(());
        };
        if self.layout.as_ref() != Some(&layout) {
            self.memory = Arc::new(layout.memory(&guess.source, &guess.options)?);
            self.layout = Some(layout);
        }
        self.notes = note.into_iter().collect();
        Ok(())
    }
}
