//! What a file of memory is, and its memory: a table of formats.
//!
//! A format has a probe, which looks at the first bytes or at the files in the same directory and
//! says yes or no, and a reader, which may fail. The first format that says yes is taken. A raw file
//! has no mark: what is no other format is raw.

use std::path::Path;
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_minidump::Error;

use super::candidate::{Candidate, Row};
use super::memory_image::Image;
use super::options::Options;
use super::source::Source;
use super::{bhyve, elf_core, flattened, kdump, layout, lime, raw_memory, virtualbox, vmware, xen};

/// The formats, in the order in which they are tried: first those that a caller or another file
/// tells, then those that the first bytes tell.
const FORMATS: [Row; 13] = [
    raw_memory::LAID_OUT,
    layout::MACHINE,
    vmware::VMWARE,
    bhyve::BHYVE,
    flattened::KDUMP_FLATTENED,
    kdump::KDUMP,
    lime::PLAIN,
    lime::COMPRESSED,
    xen::XEN,
    virtualbox::VIRTUALBOX,
    elf_core::FREEBSD_FULL,
    elf_core::ELF,
    raw_memory::RAW,
];

/// Opens the image at `path`: a file in any format, compressed or not, or a directory with a
/// `machine.json`.
///
/// # Errors
///
/// [`Error::Unsupported`] for a file that is known to be no image, or one in a form that is not
/// read; [`Error::Broken`] for an image that contradicts itself; [`Error::Io`].
pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Image, Error> {
    let path = path.as_ref();
    let mut image = first(&Candidate::at(path, options))?;
    if image.ram.as_os_str().is_empty() {
        image.ram = path.into();
    }
    Ok(image)
}

/// Opens an image that is not a file with a name: bytes at an offset, in any format that needs no
/// other file.
///
/// # Errors
///
/// Those of [`open()`].
pub fn open_bytes(bytes: Arc<dyn ReadAt>, options: &Options) -> Result<Image, Error> {
    first(&Candidate::of(Source::of(bytes, options)?, options))
}

fn first(candidate: &Candidate<'_>) -> Result<Image, Error> {
    for format in &FORMATS {
        if (format.probe)(candidate)? {
            return (format.open)(candidate);
        }
    }
    // The last row takes everything.
    Err(Error::Unsupported {
        what: "as a memory image".into(),
    })
}
