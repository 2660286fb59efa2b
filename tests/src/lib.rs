//! Dumps and kernels for tests, made from text.
//!
//! - [`mkdump`] builds dumps, sound and broken, in every container.
//! - [`mkelf`] builds kernel files: symbols and contents at addresses.
//! - [`mkctf`] builds type information, [`elf_edit`] changes kernel files: sections in and out.
//! - [`mkimage`] builds images of memory in every format that is read.
//! - [`outside`] walks page tables of x86 a second time, to know which pages a dump has.
//! - [`machines`] makes up recipes of random machines, for laws.
//! - [`random`] makes the numbers of a seed.
//! - [`expect`] reads the verdict a recipe announces for itself.
//!
//! The recipes are in `testdata/dumps` ([`corpus`] lists them); `testdata/README.md` describes them.
//!
//! This crate is the independent witness: it writes the formats down a second time,
//! from their description, and imports nothing of the crates it is used to test.

pub mod corpus;
pub mod elf_edit;
pub mod expect;
pub mod machines;
pub mod mkctf;
pub mod mkdump;
pub mod mkelf;
pub mod mkimage;
pub mod outside;
pub mod random;
