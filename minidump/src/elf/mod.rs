//! ELF files: kernels, modules, cores and memory images.
//!
//! Opening a kernel ([`KernelElf`](crate::KernelElf)) reads only the headers, the symbol table and its
//! strings. Contents are read when needed. A file can have symbols only, without contents and program
//! headers.

pub mod core;
mod descriptors;
pub mod export;
pub mod headers;
pub(crate) mod kernel;
mod memory;
pub mod notes;
pub mod sections;
mod table;
#[cfg(test)]
mod tests;
pub mod write;

pub use kernel::{Contents, Symbol, SymbolKind};
