//! The memory of a raw file with a layout.

use livecore_defs::amd64::PAGE_SIZE;
use livecore_minidump::{Error, PhysMemory as _};

use super::options::Options;
use super::pieces::{Linear, Pieces};
use super::raw_layout::{FOUR_GIB, RawLayout};
use super::source::Source;

impl RawLayout {
    /// The memory of `source` in this layout.
    pub(super) fn memory(&self, source: &Source, options: &Options) -> Result<Linear, Error> {
        let mut pieces = Pieces::new("raw memory", source, options);
        // Ignore an incomplete last page.
        let len = source.len() - source.len() % PAGE_SIZE;
        if let Self::Ranges(ranges) = self {
            for (range, offset) in ranges {
                let len = range.end.0.saturating_sub(range.start.0);
                pieces.add(range.start.0, len, *offset, 0)?;
            }
        } else {
            let below = self.below(len).min(len);
            pieces.add(0, below, 0, 0)?;
            pieces.add(FOUR_GIB, len - below, below, 0)?;
        }
        let memory = pieces.finish()?;
        // The layout is the user's, and wrong.
        if let Some(what) = memory.contradiction() {
            return Err(Error::broken("layout", 0, what, "each address once"));
        }
        if let Some(what) = memory.shortage() {
            return Err(Error::broken("layout", 0, what, "ranges within the file"));
        }
        Ok(memory)
    }
}
