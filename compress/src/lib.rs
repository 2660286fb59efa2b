//! Bytes at an offset, codecs, frames, the parallel ordered encoder and the indexed reader.
//!
//! Nothing here knows what a page or a dump is. Content goes in through [`encode_at`] or
//! [`encode_read`], and comes out of a [`Stream`] at any offset:
//!
//! ```
//! use livecore_compress::{
//!     Codec, Encoding, NoProgress, OpenOptions, ReadAt, Shape, Stream, encode_at, write_seal,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("content.zst");
//! let content = vec![7; 3_000_000];
//! let mut file = std::fs::File::create(&path)?;
//! let encoding = Encoding::new(Codec::Zstd).level(6);
//! let stored = encode_at(&content, &encoding, Shape::Frames, &mut file, &NoProgress)?;
//! write_seal(&stored, b"whatever belongs to it", &mut file)?;
//!
//! let stream = Stream::open(&path, &OpenOptions::new())?;
//! assert_eq!(stream.attachment(), Some(&b"whatever belongs to it"[..]));
//! let mut part = [0; 100];
//! stream.content().read_exact_at(&mut part, 2_500_000)?;
//! assert_eq!(part, [7; 100]);
//! # Ok(())
//! # }
//! ```
//!
//! `compress/examples/repack.rs` is a whole program.
//!
//! # The way of the bytes
//!
//! ```text
//!  ReadAt or Read ── encode ──▶ frames, one behind the other ── write_seal ──▶ index, attachment
//!                      │                       │                                      │
//!                  pipeline                    ▼                                      ▼
//!                      │          frames: a walk by their own structure     seal: parsed, compared
//!                      │                       │                                      │
//!                      ▼                       ▼                                      ▼
//!                   stream ◀──────────────── table: where each frame lies ◀──────────────
//! ```
//!
//! * [`read_at`] is how everything is read: a file, a slice, a window, decoded content.
//! * [`encode`] stores content, as independent frames or as one frame or member.
//! * [`seal`] is what follows the frames of a file of ours; `docs/sealed.md` describes it all.
//! * [`stream`] opens what is stored, by whomever, and gives its content.
//! * [`salvage`] finds what can be had of a stream that is damaged.
//! * [`frames`] walks over compressed streams without decoding; [`table`] is what it, or a seal's
//!   index, says.
//! * [`zstd_format`] and [`gzip_format`] are the outer structures of the two codecs.
//!
//! # What bad input gets
//!
//! Stored streams are untrusted. Lengths are believed when the bytes that prove them have been
//! read; memory is bounded by [`OpenOptions`], a few frames for each thread, and an index of 12
//! bytes per frame; content is given when its frame's checks have passed. A stream that is damaged
//! or cut off is opened, and says what is wrong where somebody reads it, as an
//! [`Error::Broken`] with region and offset.

pub mod codec;
mod decode;
pub mod encode;
pub mod error;
pub mod frames;
pub mod gzip_format;
mod pipeline;
pub mod progress;
pub mod read_at;
pub mod salvage;
pub mod seal;
pub mod stream;
pub mod table;
mod zero;
pub mod zstd_format;

pub use codec::Codec;
pub use encode::{Encoding, Shape, Stored, encode_at, encode_read, write_seal};
pub use error::Error;
pub use progress::{NoProgress, Progress};
pub use read_at::{ReadAt, Window};
pub use stream::{OpenOptions, Sink, Stream, StreamKind};
pub use table::{Entry, Frame, FrameTable};
pub use zero::is_zero;
