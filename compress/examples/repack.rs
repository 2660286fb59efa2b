//! Stores a file of any codec as a sealed zstd file: `repack IN OUT`.
//!
//! The output is an ordinary `.zst` file that can be read at any offset.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use livecore_compress::{
    Codec, Encoding, NoProgress, OpenOptions, ReadAt, Shape, Stream, encode_at, write_seal,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(from), Some(to)) = (args.next(), args.next()) else {
        return Err("usage: repack IN OUT".into());
    };
    repack(from, to, &mut std::io::stdout())
}

/// Stores `from` as `to`, and reports sizes and the bytes in the middle.
pub(crate) fn repack(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    report: &mut dyn Write,
) -> Result<(), Box<dyn Error>> {
    let options = OpenOptions::new();
    let stream = Stream::open(from, &options)?;
    let content = stream.content();

    let mut out = File::create(&to)?;
    let encoding = Encoding::new(Codec::Zstd).threads(options.threads);
    let stored = encode_at(&*content, &encoding, Shape::Frames, &mut out, &NoProgress)?;
    let seal = write_seal(&stored, b"", &mut out)?;
    writeln!(
        report,
        "{} bytes of content, {} of frames, {seal} of seal",
        stored.content_len, stored.stored_len
    )?;

    // A read in the middle decodes one frame.
    let sealed = Stream::open(&to, &options)?;
    let mut part = [0; 16];
    let got = sealed
        .content()
        .read_full_at(&mut part, stored.content_len / 2)?;
    writeln!(report, "in the middle: {:02x?}", &part[..got])?;
    Ok(())
}
