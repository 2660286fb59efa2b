//! Memory images in the formats of hypervisors and forensic tools.
//!
//! The formats are implemented from their descriptions, independently of the crates under test.
//! Images written by QEMU are tested elsewhere; this module covers formats whose producers are not
//! available to the tests, and damaged files.
//!
//! ```text
//! Memory::parse(text) -> raw · qemu · kdump (flatten) · lime · avml · virtualbox · vmware · bhyve
//!                        · xen · freebsd_full
//! ```

mod append;
pub mod disk;
mod elf;
mod kdump;
mod lime;
mod memory;
mod registers;
mod state;
mod xen;

pub use elf::{
    Core, Load, freebsd_full, qemu, qemu_32, qemu_arm64, qemu_paging, qemu_riscv64, virtualbox,
};
pub use kdump::{Codec, Kdump, flatten, kdump};
pub use lime::{avml, avml_0170, lime};
pub use memory::Memory;
pub use registers::{NAMES, control, register, segment_base};
pub use state::{bhyve_meta, vmss, vmss_with_cpus, vmss_with_memory};
pub use xen::{Xen, xen};
