//! The memory for the tables of an ELF file.

use std::cell::Cell;

use crate::Error;

/// A limit on the memory for tables whose size the file determines. All tables of a file share it.
pub(crate) struct Memory {
    limit: u64,
    left: Cell<u64>,
}

impl Memory {
    /// A limit of `limit` bytes, and less than 4 GiB: indices have 32 bits.
    pub(crate) fn new(limit: u64) -> Self {
        let limit = limit.min(u32::MAX.into());
        Self {
            limit,
            left: Cell::new(limit),
        }
    }

    /// The number of bytes that are not in use.
    pub(crate) fn left(&self) -> u64 {
        self.left.get()
    }

    /// Counts `len` bytes for `region` as used.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Options`] if the limit is reached.
    pub(crate) fn take(&self, region: &str, len: u64) -> Result<(), Error> {
        match self.left().checked_sub(len) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(self.exceeded(region, len)),
        }
    }

    /// Counts and allocates `len` bytes.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Options`] if the limit is reached or the system has no memory.
    pub(crate) fn zeros(&self, region: &str, len: u64) -> Result<Vec<u8>, Error> {
        self.take(region, len)?;
        let mut bytes = Vec::new();
        // The limit can be larger than the address space.
        let fits = usize::try_from(len).ok();
        let reserved = fits.and_then(|len| bytes.try_reserve_exact(len).ok().map(|()| len));
        let len = reserved.ok_or_else(|| self.exceeded(region, len))?;
        bytes.resize(len, 0);
        Ok(bytes)
    }

    fn exceeded(&self, region: &str, len: u64) -> Error {
        Error::Options(format!(
            "kernel ELF, {region}: {len:#x} bytes of memory needed, limit is {:#x} for the file; \
             raise --memory",
            self.limit
        ))
    }
}
