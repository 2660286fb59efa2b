//! Takes a dump of a memory image: `take IMAGE KERNEL OUT`.
//!
//! IMAGE is a memory image in any format that docs/images.md lists, KERNEL the kernel's ELF file,
//! OUT a file or a crash directory.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program tells its user"
)]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use livecore_compress::{Codec, Encoding};
use livecore_livedump::image;
use livecore_livedump::publish::{Destination, Output};
use livecore_livedump::take::{self, Done, NoObserver, RunOptions, Source};
use livecore_minidump::convert::Target;
use livecore_minidump::{Container, KernelElf};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let [image, kernel, out] = arguments.as_slice() else {
        return Err("usage: take IMAGE KERNEL OUT".into());
    };
    let done = dump(image.as_ref(), kernel.as_ref(), out.as_ref())?;
    for note in &done.notes {
        eprintln!("{note}");
    }
    println!("{}", done.published.path.display());
    Ok(())
}

/// Writes a sealed zstd dump of the machine in `image`, which runs `kernel`.
pub(crate) fn dump(image: &Path, kernel: &Path, out: &Path) -> Result<Done, Box<dyn Error>> {
    let image = image::open(image, &image::Options::default())?;
    let source = Source::Memory {
        memory: image.memory,
        cpus: image.cpus,
        elf: Arc::new(KernelElf::from_bytes(std::fs::read(kernel)?)?),
    };
    let options = RunOptions::new(Target {
        container: Container::Sealed,
        encoding: Encoding::new(Codec::Zstd),
    });
    let out = Destination::parse(out);
    let output = Output::Destination(&out);
    Ok(take::run(source, output, &options, &mut NoObserver)?)
}
