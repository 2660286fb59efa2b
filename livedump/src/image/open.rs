//! Opens memory images with a table of formats.
//!
//! Each format has a probe, which checks the first bytes or the files in the same directory, and a
//! reader. The first format whose probe succeeds is used. A raw file has no signature: a file of no
//! other format is raw.

use std::path::Path;
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_minidump::Error;

use super::candidate::{Candidate, Row};
use super::format::not_an_image;
use super::memory_image::Image;
use super::options::Options;
use super::source::Source;
use super::{bhyve, elf_core, flattened, kdump, layout, lime, raw_memory, virtualbox, vmware, xen};

/// The formats, in the order in which they are probed: first those that the caller or another file
/// determines, then those with a signature.
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
/// [`Error::Unsupported`] for a file that is known not to be an image, or is in an unsupported
/// variant of a format; [`Error::Broken`] for a damaged image; [`Error::Io`].
pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Image, Error> {
    let path = path.as_ref();
    let mut image = first(&Candidate::at(path, options))?;
    if image.ram.as_os_str().is_empty() {
        image.ram = path.into();
    }
    Ok(image)
}

/// Opens an image from bytes, in any format that needs no other file.
///
/// # Errors
/// See [`open()`]. Those of [`open()`].
pub fn open_bytes(bytes: Arc<dyn ReadAt>, options: &Options) -> Result<Image, Error> {
    first(&Candidate::of(Source::of(bytes, options)?, options))
}

fn first(candidate: &Candidate<'_>) -> Result<Image, Error> {
    for format in &FORMATS {
        if (format.probe)(candidate)? {
            return (format.open)(candidate);
        }
    }
    // The last row accepts every file.
    Err(Error::Unsupported {
        what: not_an_image("an unknown format"),
    })
}
