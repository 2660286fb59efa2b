//! From stored bytes to content: frames are found by their own structure, decoded, checked, and
//! handed on in order.
//!
//! Small frames are decoded by workers, frames that are too large to be held (a kernel writes one
//! frame for the whole dump) by the caller's thread, piece by piece. Both end in
//! [`Content::push`], which sees the content once, from its beginning to its end, and keeps what it
//! needs. A frame that cannot be decoded leaves a gap of the length that it states; the frames
//! behind it are still checked.
//!
//! | module       | what                                                    |
//! |--------------|---------------------------------------------------------|
//! | `content`    | what a walk works with, and where content goes          |
//! | `walked`     | what a walk finds                                       |
//! | `frames`     | what the walks of both codecs have in common            |
//! | `gzip`, `zstd` | the structure of members and frames                   |
//! | `gzip_read`, `zstd_read` | their content                               |
//! | `plain`      | payloads that are not compressed                        |

mod buffers;
mod content;
mod frames;
mod gzip;
mod gzip_read;
mod plain;
mod walked;
mod zstd;
mod zstd_decode;
mod zstd_read;

use livecore_compress::Codec;

use crate::container::Layout;
use crate::input::Input;
use crate::report::Stop;

pub(crate) use content::{Content, Context};
pub(crate) use walked::{Derived, Mark, Walked};

/// Walks the stored payload that `layout` describes and feeds its content to the intake.
pub(crate) fn walk(layout: &Layout, cx: &mut Context<'_>) -> Result<Walked, Stop> {
    match layout.codec {
        Codec::None => plain::walk(layout, cx),
        Codec::Gzip => gzip_read::walk(layout, cx),
        Codec::Zstd => zstd_read::walk(layout, cx),
    }
}

/// The content from the mark on, in pieces, until `take` has seen enough and says `false`. What is
/// damaged ends it early.
pub(crate) fn replay(
    input: &Input,
    codec: Codec,
    mark: Mark,
    end: u64,
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Stop> {
    match codec {
        Codec::None => plain::replay(input, mark.stored, end, take),
        Codec::Gzip => gzip_read::replay(input, mark.stored, end, take),
        Codec::Zstd => zstd_read::replay(input, mark.stored, end, take),
    }
}
