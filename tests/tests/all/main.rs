//! The integration tests of this crate, linked as one binary.

/// The text of a machine in `testdata/machines`.
macro_rules! machine_text {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../testdata/machines/",
            $name,
            ".toml"
        ))
    };
}

mod citations;
mod conversions;
mod corpus;
mod cycles;
mod dump_devices;
mod dumps;
mod elf;
mod encrypted;
mod failures;
mod freebsd_headers;
mod guests;
mod hostile;
mod images;
mod isf;
mod kernel_elf;
mod libkvm;
mod locks;
mod netdump;
mod old_guests;
mod pages;
mod reader;
mod real_dump;
mod repository;
mod rust_source;
mod salvaging;
mod salvaging_blocks;
mod salvaging_full;
mod sections;
mod sockets;
mod threads;
mod translation;
mod types;
mod unwinding;
mod verifier;
mod verify_machines;
