//! What a kernel's start does to a machine's memory.

use super::builder::Builder;
use super::error::Error;
use super::processor::Processor;

/// One port's start.
pub(crate) trait Boot: Processor {
    /// Fills the tables as the kernel's start does: direct map, kernel image.
    fn boot(&self, builder: &mut Builder<'_>) -> Result<(), Error>;
    /// Sets its own variables when the kernel map is complete; gives the end of the addresses
    /// that a dump's page map covers.
    fn settle(&self, builder: &mut Builder<'_>) -> Result<u64, Error>;
}
