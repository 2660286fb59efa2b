//! Images of memory for tests, in every format that hypervisors and forensic tools keep.
//!
//! The formats are written down here a second time, from their descriptions; nothing is taken from
//! the crates under test, not even constants. What QEMU itself writes is compared elsewhere; this
//! is for the formats whose producers are not at hand, and for files that are wrong on purpose.
//!
//! ```text
//! Memory::parse(text) -> raw · qemu · kdump (flatten) · lime · avml · virtualbox · vmware · bhyve
//!                        · xen · freebsd_full
//! ```

mod append;
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
