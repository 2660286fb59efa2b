//! Memory that is read through an image is the memory that was put into it, whatever the format.
//!
//! The images come from `mkimage`, which shares nothing with the readers, and from QEMU.

mod common;
mod damage;
mod formats;
mod fuzz;
mod peers;
mod qemu;
mod qemu_i386;
