//! The effect of the kernel's start on a machine's memory.

use super::builder::Builder;
use super::error::Error;
use super::processor::Processor;

/// The start of one port.
pub(crate) trait Boot: Processor {
    /// Fills the page tables as the kernel's start does: direct map and kernel image.
    fn boot(&self, builder: &mut Builder<'_>) -> Result<(), Error>;
    /// Sets the port's own variables once the kernel map is complete. Returns the end of the
    /// addresses that a dump's page map covers.
    fn settle(&self, builder: &mut Builder<'_>) -> Result<u64, Error>;
}
