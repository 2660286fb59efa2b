//! Dump devices: finds the dump at the end of a partition and checks its headers, as savecore(8) does.
//!
//! ```text
//!  … | header | key block | data … | slack | header |
//!     leading                                trailing: the last sector
//! ```
//!
//! savecore(8) marks a saved dump by another magic in the trailing header, and changes nothing else. The
//! parity of a cleared header is therefore wrong, and the leading header still has the kind of the dump.
//!
//! `DoFile` in FreeBSD `sbin/savecore/savecore.c`, `dump_start` in `sys/kern/kern_shutdown.c`.

use std::io;
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt, Window};
use livecore_defs::kerneldump::{PARITY, SIZE};
use livecore_defs::textdump::BLOCK;

use crate::container::{head_of, start_on_device};
use crate::kerneldump::Magic;
use crate::{Error, KernelDumpHeader};

/// Sector sizes to try if the size is unknown: that of most disks, and that of disks with 4096 bytes.
const SECTORS: [u64; 2] = [512, 4096];

/// The dump on a device, found by its trailing header.
#[derive(Debug)]
pub struct DumpDevice {
    /// The trailing header. Of a cleared dump, with the magic that it had before.
    pub header: KernelDumpHeader,
    /// Whether savecore(8) has cleared the dump.
    pub is_cleared: bool,
    /// Offset of the trailing header.
    pub at: u64,
    /// The bytes of the trailing header.
    pub block: [u8; SIZE],
    /// What is wrong with the headers.
    pub findings: Vec<Error>,
}

impl DumpDevice {
    /// Finds the dump in `device` and checks its headers. `sector` is the sector size, if it is known.
    /// `None` if the last sector has no header.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the device cannot be read, [`Error::Unsupported`] if the version of the header is
    /// unknown.
    pub fn find(device: &Arc<dyn ReadAt>, sector: Option<u64>) -> Result<Option<Self>, Error> {
        let size = device.size()?;
        let all = sector.map_or(SECTORS.to_vec(), |sector| vec![sector]);
        for at in all
            .into_iter()
            .filter_map(|sector| size.checked_sub(sector))
        {
            let mut block = [0; SIZE];
            if device.read_full_at(&mut block, at)? < SIZE {
                continue;
            }
            if let Some(header) = KernelDumpHeader::parse(&block, at)? {
                return Self::check(device, header, at, block).map(Some);
            }
        }
        Ok(None)
    }

    fn check(
        device: &Arc<dyn ReadAt>,
        header: KernelDumpHeader,
        at: u64,
        block: [u8; SIZE],
    ) -> Result<Self, Error> {
        let mut found = Self {
            is_cleared: header.magic == Magic::Cleared,
            header,
            at,
            block,
            findings: Vec::new(),
        };
        if found.is_cleared {
            let kind = found.leading(&**device)?.map(|front| front.magic);
            let magic = kind.filter(|kind| *kind != Magic::Cleared);
            let restored = found.with_magic(magic.unwrap_or_default());
            // The magic is known, and the version is that of `block`.
            found.header = KernelDumpHeader::parse(&restored, at)?.unwrap_or(found.header);
        }
        if !found.header.parity_ok {
            found.findings.push(broken(
                "parity",
                at + PARITY.offset as u64,
                hex(found.header.parity),
                hex(found.parity()),
            ));
        }
        let source = found.restored(device, false);
        if let Err(error) = found.place(&source) {
            match error {
                Error::Broken { .. } => found.findings.push(error),
                other => return Err(other),
            }
        }
        Ok(found)
    }

    /// Size of a sector: the distance of the trailing header from the end of the device.
    fn sector(&self, size: u64) -> u64 {
        size.saturating_sub(self.at)
    }

    /// The offset of the leading header that the trailing one states, if it is on the device.
    fn leading_at(&self, sector: u64) -> Option<u64> {
        let key = u64::from(self.header.dumpkeysize);
        let end = self.at.checked_sub(self.header.dumpextent)?;
        end.checked_sub(key)?.checked_sub(sector)
    }

    fn leading(&self, device: &dyn ReadAt) -> Result<Option<KernelDumpHeader>, Error> {
        let sector = self.sector(device.size()?);
        let Some(at) = self.leading_at(sector) else {
            return Ok(None);
        };
        let mut block = [0; SIZE];
        if device.read_full_at(&mut block, at)? < SIZE {
            return Ok(None);
        }
        Ok(KernelDumpHeader::parse(&block, at).unwrap_or(None))
    }

    /// Checks lengths, the leading header and the codec of the data.
    fn place(&self, device: &Arc<dyn ReadAt>) -> Result<(), Error> {
        let size = device.size()?;
        let header = &self.header;
        if header.magic == Magic::Text {
            let len = header.dumplength;
            let most = self.at.checked_sub(BLOCK);
            let start = most.and_then(|most| most.checked_sub(len));
            let Some(start) = start.filter(|_| len.is_multiple_of(BLOCK)) else {
                let most = most.unwrap_or(0);
                let expected = format!("a multiple of {BLOCK}, at most {most:#x}");
                return Err(broken(
                    "dumplength",
                    self.at + 40,
                    format!("{len:#x}"),
                    expected,
                ));
            };
            if self.leading(&**device)?.as_ref() != Some(header) {
                return Err(Error::broken(
                    "leading kerneldumpheader",
                    start,
                    "different or no header",
                    format!("copy of the header at {:#x}", self.at),
                ));
            }
            return Ok(());
        }
        let start = start_on_device(&**device, size, header, self.at)?;
        let Some(codec) = header.codec() else {
            return Err(broken(
                "compression",
                self.at + 495,
                header.compression.to_string(),
                "0, 1 or 2",
            ));
        };
        if codec == Codec::None && header.dumplength != header.dumpextent {
            return Err(broken(
                "dumplength",
                self.at + 40,
                format!("{:#x}", header.dumplength),
                format!(
                    "{:#x}, the extent of an uncompressed dump",
                    header.dumpextent
                ),
            ));
        }
        let data = Window::new(Arc::clone(device), start, header.dumplength);
        let found = Codec::sniff(&head_of(&data)?);
        if header.dumpkeysize == 0 && found != codec && found != Codec::None {
            return Err(broken(
                "compression",
                self.at + 495,
                codec.to_string(),
                format!("{found}, the codec of the data"),
            ));
        }
        Ok(())
    }

    /// The device with the magic of a cleared dump restored. `trust`: with a leading header that is a copy
    /// of the trailing one, whatever is there.
    pub fn restored(&self, device: &Arc<dyn ReadAt>, trust: bool) -> Arc<dyn ReadAt> {
        let block = match self.is_cleared {
            true => self.with_magic(self.header.magic),
            false => self.block,
        };
        let mut patches = vec![(self.at, block)];
        let sector = device.size().map(|size| self.sector(size));
        let leading = sector.ok().and_then(|sector| self.leading_at(sector));
        patches.extend(leading.filter(|_| trust).map(|at| (at, block)));
        Arc::new(Patched {
            source: Arc::clone(device),
            patches,
        })
    }

    /// The data of a kernel dump as it is stored; `None` if it is not on the device.
    pub fn data(&self, device: &Arc<dyn ReadAt>) -> Option<Window<Arc<dyn ReadAt>>> {
        let start = self.at.checked_sub(self.header.dumpextent)?;
        let len = self.header.dumplength;
        let fits = start.checked_add(len).is_some_and(|end| end <= self.at);
        fits.then(|| Window::new(Arc::clone(device), start, len))
    }

    /// The key block of an encrypted dump with its padding; `None` if the dump is not encrypted.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the device cannot be read, [`Error::Broken`] if the key block is not on the device
    /// or longer than any kernel writes.
    pub fn key_block(&self, device: &dyn ReadAt) -> Result<Option<Vec<u8>>, Error> {
        /// `dumpon` refuses longer ones; 2085 bytes and the padding of a sector.
        const MOST: u32 = 1 << 16;
        let len = self.header.dumpkeysize;
        if len == 0 {
            return Ok(None);
        }
        let start = self.at.checked_sub(self.header.dumpextent);
        let start = start.and_then(|start| start.checked_sub(len.into()));
        let (Some(start), 1..=MOST) = (start, len) else {
            return Err(broken(
                "dumpkeysize",
                self.at + 56,
                format!("{len:#x}"),
                format!("at most {MOST:#x}"),
            ));
        };
        let mut bytes = vec![0; len as usize];
        device.read_exact_at(&mut bytes, start)?;
        Ok(Some(bytes))
    }

    /// The trailing header as savecore(8) writes it to clear the dump.
    pub fn cleared(&self) -> [u8; SIZE] {
        self.with_magic(Magic::Cleared)
    }

    /// The parity that the rest of the header needs.
    fn parity(&self) -> [u8; 4] {
        let mut parity = [0; 4];
        let block = self.with_magic(self.header.magic);
        for word in block[..PARITY.offset].chunks_exact(4) {
            for (sum, byte) in parity.iter_mut().zip(word) {
                *sum ^= byte;
            }
        }
        parity
    }

    fn with_magic(&self, magic: Magic) -> [u8; SIZE] {
        let mut block = self.block;
        block[..magic.bytes().len()].copy_from_slice(magic.bytes());
        block
    }
}

fn hex(bytes: [u8; 4]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(" ")
}

fn broken(
    field: &str,
    offset: u64,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    Error::broken(
        format!("kerneldumpheader, {field}"),
        offset,
        found,
        expected,
    )
}

/// A device with other bytes in some sectors.
struct Patched {
    source: Arc<dyn ReadAt>,
    patches: Vec<(u64, [u8; SIZE])>,
}

impl ReadAt for Patched {
    fn size(&self) -> io::Result<u64> {
        self.source.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let got = self.source.read_at(buf, offset)?;
        let end = offset.saturating_add(got as u64);
        for (at, block) in &self.patches {
            let (from, to) = (offset.max(*at), end.min(at.saturating_add(SIZE as u64)));
            if from < to {
                let patch = &block[(from - at) as usize..(to - at) as usize];
                buf[(from - offset) as usize..][..patch.len()].copy_from_slice(patch);
            }
        }
        Ok(got)
    }

    fn lost(&self) -> Vec<std::ops::Range<u64>> {
        self.source.lost()
    }
}
