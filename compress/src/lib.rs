//! Bytes at an offset, codecs, frames, the parallel ordered encoder and the indexed reader.
//!
//! Nothing here knows what a page or a dump is.

pub mod codec;
pub mod encode;
pub mod error;
pub mod progress;
pub mod read_at;
pub mod stream;

pub use codec::Codec;
pub use encode::{Encoding, Shape, Stored, encode_at, encode_read};
pub use error::Error;
pub use progress::{NoProgress, Progress};
pub use read_at::{ReadAt, Window};
pub use stream::{OpenOptions, Stream, StreamKind};
