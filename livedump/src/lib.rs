//! Producers of FreeBSD kernel dumps: memory images, QEMU guests, and the running kernel through
//! mem(4); and the server that receives dumps over the network ([`netdump`]).
//!
//! ```text
//!  image     qmp, gdb  mem4                 emulated
//!  a file    a guest   this system's        mem(4) of an emulated
//!    │         │       /dev/mem             machine, which dumps itself
//!    └────┬────┴────┬────┘                     ▲
//!         ▼         │ MEM_KERNELDUMP           │
//!  take: plan, read, write ──▶ publish: rename the complete file
//! ```
//!
//! Takes a dump of a memory image to `livecore.N.zst` in a crash directory:
//!
//! ```
//! # use livecore_synth::{Description, build, write_out};
//! # let text = include_str!("../../testdata/machines/tiny.toml");
//! # let directory = tempfile::tempdir()?;
//! # let machine = directory.path().join("machine");
//! # write_out(&build(&Description::parse(text)?)?, &machine)?;
//! # let (image_path, kernel_path) = (machine.clone(), machine.join("kernel"));
//! # let crash = directory.path();
//! use livecore_compress::{Codec, Encoding};
//! use livecore_livedump::image;
//! use livecore_livedump::publish::{Destination, Output};
//! use livecore_livedump::take::{self, NoObserver, RunOptions, Source};
//! use livecore_minidump::convert::Target;
//! use livecore_minidump::{Container, KernelElf};
//!
//! let image = image::open(&image_path, &image::Options::default())?;
//! let source = Source::Memory {
//!     memory: image.memory,
//!     cpus: image.cpus,
//!     elf: KernelElf::from_bytes(std::fs::read(&kernel_path)?)?.into(),
//! };
//! let options = RunOptions::new(Target {
//!     container: Container::Sealed,
//!     encoding: Encoding::new(Codec::Zstd),
//! });
//! let crash = Destination::parse(crash);
//! let output = Output::Destination(&crash);
//! let done = take::run(source, output, &options, &mut NoObserver)?;
//! assert!(done.published.path.ends_with("livecore.0.zst"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod conversion;
pub mod disk;
pub mod emulated;
pub mod gdb;
pub mod image;
pub mod mem4;
pub mod netdump;
pub mod publish;
pub mod qmp;
pub mod reduction;
pub mod sys;
pub mod take;
mod torn;
