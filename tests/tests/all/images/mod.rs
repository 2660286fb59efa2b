//! Memory images: every format reads back the memory that was written.
//!
//! The images are written by `mkimage`, which is independent of the readers, and by QEMU.

mod common;
mod damage;
mod formats;
mod fuzz;
mod peers;
mod qemu;
mod qemu_i386;
