//! Finds the addresses of a raw image with the kernel's help.

mod bank;
mod hole;
mod linear;

use livecore_minidump::{Error, KernelElf};

use crate::image::Image;

/// Sets the layout of a raw image according to the kernel, if the layout is a guess. If the kernel
/// cannot be read or fits no layout, the layout is the one that page tables show.
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
        Some((layout, note)) => image.set_layout(layout, note),
        None => Ok(()),
    }
}
