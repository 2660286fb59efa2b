//! Decoding of one zstd frame. As in any streaming decoder, a block can refer only to content within
//! the frame's window; a frame that refers to earlier content does not decode.

use std::cell::RefCell;

use ::zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use ::zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::walked::PIECE;
use super::zstd::Frame;
use crate::input::Input;
use crate::report::Stop;

/// The largest window that the decoder supports.
pub(super) const WINDOW_MAX: u64 = 1 << 31;

/// Why a frame does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The content does not match its checksum.
    Checksum,
    /// Any other fault, as text.
    Blocks(String),
}

impl Fault {
    /// The meaning of the library's error code. Error codes are stable across releases.
    fn of(code: usize) -> Self {
        let checksum = ZSTD_ErrorCode::ZSTD_error_checksum_wrong as usize;
        match 0_usize.wrapping_sub(code) == checksum {
            true => Self::Checksum,
            false => Self::Blocks(get_error_name(code).to_lowercase()),
        }
    }
}

thread_local! {
    /// A worker's decoder. Creating one takes as long as decoding a small frame.
    static DECODER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// A decoder for frames of any window. The walk has compared the window with the memory limit.
fn decoder() -> Result<DCtx<'static>, Stop> {
    let no_memory = || Stop::Failed("no memory for a zstd decoder".into());
    let mut decoder = DCtx::try_create().ok_or_else(no_memory)?;
    let set = decoder.set_parameter(DParameter::WindowLogMax(WINDOW_MAX.ilog2()));
    set.map_err(|code| Stop::Failed(format!("zstd: {}", get_error_name(code))))?;
    Ok(decoder)
}

/// Decodes a whole frame into `output`, with a capacity of `most` bytes.
pub(super) fn whole(
    frame: &Frame,
    stored: &[u8],
    most: usize,
    mut output: Vec<u8>,
) -> Result<Vec<u8>, Fault> {
    if frame.window > WINDOW_MAX {
        return Err(Fault::Blocks(format!("a window of {} bytes", frame.window)));
    }
    output.clear();
    output.reserve_exact(most);
    DECODER.with_borrow_mut(|cached| {
        let decoder = match cached {
            Some(decoder) => decoder,
            none => {
                let no_memory = |_| Fault::Blocks("no memory for a decoder".into());
                none.insert(decoder().map_err(no_memory)?)
            }
        };
        let reset = decoder.reset(ResetDirective::SessionOnly);
        reset.map_err(Fault::of)?;
        // The window covers the whole content.
        if frame.declared.is_some_and(|len| len <= frame.window) {
            decoder.decompress(&mut output, stored).map_err(Fault::of)?;
            return Ok(output);
        }
        // With all input at once, the library ignores the window.
        let (first, last) = stored.split_at(stored.len().saturating_sub(1));
        let mut done = false;
        for piece in [first, last] {
            let mut source = InBuffer::around(piece);
            loop {
                let (read, filled) = (source.pos, output.len());
                let mut out = OutBuffer::around_pos(&mut output, filled);
                let hint = decoder.decompress_stream(&mut out, &mut source);
                done = hint.map_err(Fault::of)? == 0;
                if done || source.pos == read && output.len() == filled {
                    break;
                }
            }
        }
        match done {
            true => Ok(output),
            false => Err(Fault::Blocks(format!("more content than {most} bytes"))),
        }
    })
}

/// Decodes the frame at `from`, which ends or is cut at `to`. Passes its content, and the number of
/// stored bytes used, to `take` until it returns `false`. The inner result is that of the frame.
#[expect(
    clippy::type_complexity,
    reason = "a sink of pieces reads better in place"
)]
pub(super) fn in_pieces(
    input: &Input,
    from: u64,
    to: u64,
    take: &mut dyn FnMut(&[u8], u64) -> Result<bool, Stop>,
) -> Result<Result<(), Fault>, Stop> {
    let mut decoder = decoder()?;
    let mut stored = vec![0; PIECE];
    let mut content = vec![0; PIECE];
    let mut at = from;
    while at < to {
        let want = usize::try_from(to - at).unwrap_or(usize::MAX).min(PIECE);
        let got = input.read(&mut stored[..want], at)?;
        if got == 0 {
            break;
        }
        at += got as u64;
        let mut source = InBuffer::around(&stored[..got]);
        let mut reported = 0;
        loop {
            let mut out = OutBuffer::around(&mut content[..]);
            let hint = match decoder.decompress_stream(&mut out, &mut source) {
                Ok(hint) => hint,
                Err(code) => return Ok(Err(Fault::of(code))),
            };
            let (filled, read) = (out.pos(), source.pos);
            if !take(&content[..filled], (read - reported) as u64)? {
                return Ok(Ok(()));
            }
            reported = read;
            if hint == 0 {
                let end = at - got as u64 + read as u64;
                return Ok(match end == to {
                    true => Ok(()),
                    false => Err(Fault::Blocks(format!(
                        "the frame ends at {end:#x}, its blocks at {to:#x}"
                    ))),
                });
            }
            if read == got && filled < PIECE {
                break;
            }
        }
    }
    Ok(Err(Fault::Blocks("the stream ends early".into())))
}

#[cfg(test)]
mod tests {
    use ::zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode::{self, *};
    use ::zstd::zstd_safe::{CCtx, CParameter, compress_bound};

    use super::*;

    /// Magic 4, descriptor 1, content size 1; one block, with a header of 3 bytes; checksum 4.
    fn frame() -> Vec<u8> {
        let content = b"the content of a frame";
        let mut encoder = CCtx::create();
        let set = encoder.set_parameter(CParameter::ChecksumFlag(true));
        set.unwrap();
        let mut stored = Vec::with_capacity(compress_bound(content.len()));
        encoder.compress2(&mut stored, content).unwrap();
        assert_eq!(stored[4..6], [0b10_0100, content.len() as u8]);
        stored
    }

    #[test]
    fn a_fault_is_that_of_the_error_code() {
        let decode = |stored: &[u8]| {
            let mut content = Vec::with_capacity(1 << 10);
            decoder().unwrap().decompress(&mut content, stored)
        };
        assert!(decode(&frame()).is_ok());
        let last = frame().len() - 1;
        #[expect(clippy::type_complexity, reason = "a table reads better in place")]
        let changes: [(ZSTD_ErrorCode, &dyn Fn(&mut Vec<u8>)); 8] = [
            (ZSTD_error_prefix_unknown, &|frame| frame[0] ^= 1),
            (ZSTD_error_frameParameter_unsupported, &|frame| {
                frame[4] |= 0b1000;
            }),
            // Without the single-segment flag, byte 5 is the window: 2 TiB.
            (ZSTD_error_frameParameter_windowTooLarge, &|frame| {
                frame[4..6].copy_from_slice(&[0b100, 0xf8]);
            }),
            (ZSTD_error_dictionary_wrong, &|frame| {
                frame[4] |= 1;
                frame.insert(5, 7);
            }),
            // The reserved type of a block.
            (ZSTD_error_corruption_detected, &|frame| frame[6] |= 0b110),
            (ZSTD_error_checksum_wrong, &|frame| frame[last] ^= 1),
            (ZSTD_error_checksum_wrong, &|frame| frame.truncate(last)),
            (ZSTD_error_srcSize_wrong, &|frame| frame.truncate(12)),
        ];
        for (expected, change) in changes {
            let mut stored = frame();
            change(&mut stored);
            let code = decode(&stored).unwrap_err();
            assert_eq!(0_usize.wrapping_sub(code), expected as usize);
            let checksum = expected == ZSTD_error_checksum_wrong;
            assert_eq!(Fault::of(code) == Fault::Checksum, checksum, "{expected:?}");
        }
        for code in 1..=200 {
            let fault = Fault::of(0_usize.wrapping_sub(code));
            let checksum = code == ZSTD_error_checksum_wrong as usize;
            assert_eq!(fault == Fault::Checksum, checksum, "{code}");
        }
    }
}
