//! The addresses of a raw image, by the kernel's own word.

mod bank;
mod hole;
mod linear;

use livecore_minidump::{Error, KernelElf};

use crate::image::Image;

/// Has a raw image whose layout is a guess laid out as the kernel says. Where that cannot be read, or
/// fits no layout, the image is what its page tables tell.
///
/// # Errors
///
/// [`Error`] if the image cannot be read.
pub fn settle(image: &mut Image, elf: &KernelElf) -> Result<(), Error> {
    let Some((len, _)) = image.guess() else {
        return Ok(());
    };
    let found = if bank::is_of(elf) {
        bank::layout(image, elf, len)
    } else {
        hole::layout(image, elf, len)?
    };
    match found {
        Some((layout, note)) => image.lay(layout, note),
        None => Ok(()),
    }
}
