//! Object stores: reading by range requests, uploads in parts, and servers that fail or answer wrongly.
//!
//! `cargo test -p livecore --features store --test store`
//!
//! The tests of [`s3`] need the S3 server `moto_server` of the Python package `moto[server]`, in PATH or named by
//! `LIVECORE_MOTO`.

mod made;
mod reading;
mod s3;
mod server;
mod uploading;
