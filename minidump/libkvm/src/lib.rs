//! FreeBSD's libkvm(3) for kernel dumps: a shared library with its C interface (FreeBSD 15.0
//! `lib/libkvm/kvm.h`).
//!
//! ```text
//! ffi      the exported functions: pointers of C in, values of Rust out; the only unsafe code
//! handle   kvm_t: a number in a table, so that a closed handle is refused; its last error
//! opened   the dump, its kernel and its memory
//! symbols  kvm_nlist: symbols, and those of VNET and DPCPU
//! procs    kvm_getprocs: struct kinfo_proc from the structures of the kernel
//! cpus     per-CPU data, counters, cp_time
//! system   load average, swap devices
//! walk     kvm_walk_pages
//! abi      the C types
//! ```
//!
//! `docs/libkvm.md` has the differences from FreeBSD's library.

pub mod abi;
mod cpus;
mod failure;
pub mod ffi;
mod handle;
mod opened;
mod procs;
mod record;
mod symbols;
mod system;
mod walk;
