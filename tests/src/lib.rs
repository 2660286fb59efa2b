//! Builders of dumps, kernels and memory images for tests.
//!
//! - [`mkdump`] builds dumps, sound and broken, in every container.
//! - [`mkelf`] builds kernel files: symbols, and contents at addresses.
//! - [`mkctf`] builds type information; [`elf_edit`] adds and removes sections of kernel files.
//! - [`mkimage`] builds memory images in every supported format.
//! - [`netdump`] is a client of netdump(4).
//! - [`outside`] walks x86 page tables to compute which pages a dump must contain.
//! - [`machines`] generates recipes of random machines for property tests.
//! - [`random`] generates pseudo-random numbers from a seed.
//! - [`console`] runs the examples of Markdown pages.
//! - [`exposition`] parses the text format of Prometheus.
//! - [`expect`] reads the expected verdict from a recipe.
//! - [`golden`] compares output with recorded output.
//!
//! The recipes are in `testdata/dumps` ([`corpus`] lists them); `testdata/README.md` describes them.
//!
//! This crate is a second, independent implementation of the formats, written from their
//! descriptions. Its library does not depend on the crates under test.

#![allow(
    clippy::missing_errors_doc,
    reason = "a builder fails with an error that quotes the recipe"
)]

pub mod console;
pub mod corpus;
pub mod elf_edit;
pub mod expect;
pub mod exposition;
pub mod golden;
pub mod machines;
pub mod mkctf;
pub mod mkdump;
pub mod mkelf;
pub mod mkimage;
pub mod netdump;
pub mod outside;
pub mod random;
