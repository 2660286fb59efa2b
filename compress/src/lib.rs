//! Bytes at an offset, codecs, frames, the parallel ordered encoder and the indexed reader.
//!
//! Nothing here knows what a page or a dump is.

pub mod codec;
mod decode;
pub mod encode;
pub mod error;
pub mod frames;
pub mod gzip_format;
mod pipeline;
pub mod progress;
pub mod read_at;
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
