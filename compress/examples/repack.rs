//! Stores a file of any codec as a sealed zstd file: `repack IN OUT`.
//!
//! What comes out is an ordinary `.zst` of which any part can be read without the rest.

use std::error::Error;
use std::fs::File;
use std::io::Write;

use livecore_compress::{
    Codec, Encoding, NoProgress, OpenOptions, ReadAt, Shape, Stream, encode_at, write_seal,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(from), Some(to)) = (args.next(), args.next()) else {
        return Err("usage: repack IN OUT".into());
    };
    let options = OpenOptions::new();
    let stream = Stream::open(from, &options)?;
    let content = stream.content();

    let mut out = File::create(&to)?;
    let encoding = Encoding::new(Codec::Zstd).threads(options.threads);
    let stored = encode_at(&*content, &encoding, Shape::Frames, &mut out, &NoProgress)?;
    let seal = write_seal(&stored, b"", &mut out)?;
    out.flush()?;
    let mut report = std::io::stdout();
    writeln!(
        report,
        "{} bytes of content, {} of frames, {seal} of seal",
        stored.content_len, stored.stored_len
    )?;

    // The middle of it costs one frame.
    let sealed = Stream::open(&to, &options)?;
    let mut part = [0; 16];
    let got = sealed
        .content()
        .read_full_at(&mut part, stored.content_len / 2)?;
    writeln!(report, "in the middle: {:02x?}", &part[..got])?;
    Ok(())
}
