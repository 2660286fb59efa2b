//! Frame walks: find frames by their structure, decode and check them, and pass their content on in
//! order.
//!
//! Workers decode small frames. The calling thread decodes frames that do not fit in memory, piece
//! by piece; a kernel writes one frame for the whole dump. Both pass the content, in order, to
//! [`Content::push`]. A frame that does not decode leaves a gap of the length that it states; the
//! frames after it are still checked.
//!
//! | module                   | content                                     |
//! |--------------------------|---------------------------------------------|
//! | `content`                | the context of a walk, and its destination  |
//! | `walked`                 | the result of a walk                        |
//! | `frames`                 | code that the walks of both codecs share    |
//! | `gzip`, `zstd`           | the structure of members and frames         |
//! | `gzip_read`, `zstd_read` | decoding and checks of members and frames   |
//! | `plain`                  | uncompressed payloads                       |

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

/// Walks the stored payload that `layout` describes, and passes its content to the intake.
pub(crate) fn walk(layout: &Layout, cx: &mut Context<'_>) -> Result<Walked, Stop> {
    match layout.codec {
        Codec::None => plain::walk(layout, cx),
        Codec::Gzip => gzip_read::walk(layout, cx),
        Codec::Zstd => zstd_read::walk(layout, cx),
    }
}

/// Passes the content from `mark` to `take`, in pieces, until `take` returns `false` or a frame is
/// damaged.
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
