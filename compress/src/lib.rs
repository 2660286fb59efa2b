//! Compressed streams with random access: codecs, frames, a parallel encoder and an indexed reader.
//!
//! This crate does not know pages or dumps. [`encode_at`] and [`encode_read`] store content, and a
//! [`Stream`] reads it at any offset:
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
//! write_seal(&stored, b"an attachment", &mut file)?;
//!
//! let stream = Stream::open(&path, &OpenOptions::new())?;
//! assert_eq!(stream.attachment(), Some(&b"an attachment"[..]));
//! let mut part = [0; 100];
//! stream.content().read_exact_at(&mut part, 2_500_000)?;
//! assert_eq!(part, [7; 100]);
//! # Ok(())
//! # }
//! ```
//!
//! `compress/examples/repack.rs` is a complete program.
//!
//! # Data flow
//!
//! ```text
//!  ReadAt or Read ── encode ──▶ frames, one after the other ─── write_seal ──▶ index, attachment
//!                      │                       │                                      │
//!                  pipeline                    ▼                                      ▼
//!                      │          frames: a walk without decoding           seal: parsed, compared
//!                      │                       │                                      │
//!                      ▼                       ▼                                      ▼
//!                   stream ◀──────────────── table: the offset of each frame ◀───────────
//! ```
//!
//! * [`ReadAt`] is the trait for all sources: a file, a slice, a window, decoded content.
//! * [`encode_at`] and [`encode_read`] store content, as independent frames or as one frame or member.
//! * [`seal`] is the index and attachment after the frames; `docs/sealed.md` describes the format.
//! * [`Stream`] opens any stored stream and reads its content.
//! * [`salvage`] recovers content of damaged streams.
//! * [`frames`] walks over compressed streams without decoding; [`FrameTable`] is its result, or a
//!   seal's index.
//!
//! # Untrusted input
//!
//! Stored streams are not trusted. A length is used only after the bytes that prove it have been
//! read. Memory is bounded by [`OpenOptions`], a few frames for each thread, and an index of 12
//! bytes per frame. Content is returned only after its frame's checks have passed. A damaged or
//! truncated stream can be opened; a read of a damaged part returns an [`Error::Broken`] with region
//! and offset.

mod codec;
mod decode;
mod encode;
mod error;
mod evenness;
pub mod frames;
mod gzip_format;
mod output;
mod pipeline;
mod progress;
mod read_at;
mod restart;
pub mod salvage;
pub mod seal;
mod sparse;
mod spool;
mod stream;
mod sync;
mod table;
mod zero;
mod zstd_format;

pub use codec::Codec;
pub use encode::{Encoding, FrameWriter, Shape, Stored, encode_at, encode_read, write_seal};
pub use error::Error;
pub use output::{InOrder, Output, WriteAt};
pub use progress::{NoProgress, Progress};
pub use read_at::{ReadAt, Window};
pub use sparse::Sparse;
pub use spool::{spool, spool_error};
pub use stream::RestartCache;
pub use stream::{OpenOptions, Sink, Stream, StreamKind};
pub use table::{Entry, Frame, FrameTable};
pub use zero::is_zero;
