//! A sample of a payload, and its compressed size.

use std::io;
use std::time::{Duration, Instant};

use livecore_compress::{Encoding, Progress, ReadAt, Shape, encode_at};

use crate::failure::Failure;

/// Bytes per frame.
const FRAME: u64 = Encoding::FRAME_SIZE as u64;

/// Standard errors in the interval of 95 %.
const WIDTH: f64 = 1.96;

/// Frames of a payload, at equal distances.
pub(super) struct Sample {
    bytes: Vec<u8>,
    /// Size of the payload in bytes.
    len: u64,
    took: Duration,
}

/// The estimate for a payload.
pub(super) struct Encoded {
    /// The size of all frames in bytes.
    pub(super) size: u64,
    /// The size is within this many bytes with a probability of about 95 %; 0 if all frames were read.
    pub(super) error: u64,
    /// The time to read and compress the payload.
    pub(super) seconds: f64,
}

impl Sample {
    /// Reads at most `most` frames of a payload of `len` bytes.
    pub(super) fn read(
        payload: &dyn ReadAt,
        len: u64,
        most: usize,
        progress: &dyn Progress,
    ) -> Result<Self, Failure> {
        let frames = len.div_ceil(FRAME);
        let count = frames.min(most as u64);
        let mut bytes = Vec::new();
        let began = Instant::now();
        for index in 0..count {
            if progress.cancelled() {
                return Err(livecore_compress::Error::Cancelled.into());
            }
            // The middle of each of `count` equal parts; frame `index` if all are read.
            let number = (u128::from(2 * index + 1) * u128::from(frames)) / u128::from(2 * count);
            let number = number as u64; // below `frames`
            let at = number * FRAME;
            let start = bytes.len();
            bytes.resize(start + (len - at).min(FRAME) as usize, 0);
            let got = payload.read_full_at(&mut bytes[start..], at)?;
            // The end of a truncated dump.
            bytes.truncate(start + got);
            progress.advance(got as u64, 0);
        }
        Ok(Self {
            bytes,
            len,
            took: began.elapsed(),
        })
    }

    /// The number of frames of the payload.
    pub(super) fn frames(&self) -> u64 {
        self.len.div_ceil(FRAME)
    }

    /// The number of frames that were read.
    pub(super) fn sampled(&self) -> u64 {
        (self.bytes.len() as u64).div_ceil(FRAME)
    }

    /// Compresses the sample, and scales size and time to the payload.
    pub(super) fn encode(
        &self,
        encoding: &Encoding,
        progress: &dyn Progress,
    ) -> Result<Encoded, Failure> {
        let began = Instant::now();
        let stored = encode_at(
            &self.bytes,
            encoding,
            Shape::Frames,
            &mut io::sink(),
            progress,
        )?;
        let took = began.elapsed() + self.took;
        let scale = match self.bytes.len() {
            0 => 0.0,
            sampled => self.len as f64 / sampled as f64,
        };
        let entries = stored.frames().map(|table| table.entries());
        let sizes = entries.into_iter().flatten();
        let sizes: Vec<_> = sizes.map(|entry| f64::from(entry.stored_len)).collect();
        let all = self.frames() as f64;
        Ok(Encoded {
            size: (stored.stored_len as f64 * scale).round() as u64,
            error: (WIDTH * standard_error(&sizes, all) * all).round() as u64,
            seconds: took.as_secs_f64() * scale,
        })
    }
}

/// The standard error of the mean of `sizes`, a sample without replacement of `all` values.
fn standard_error(sizes: &[f64], all: f64) -> f64 {
    let count = sizes.len() as f64;
    if count >= all || count < 2.0 {
        return 0.0;
    }
    let mean = sizes.iter().sum::<f64>() / count;
    let squares = sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>();
    (squares / (count - 1.0) / count * (1.0 - count / all)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use livecore_compress::{Codec, NoProgress};

    #[test]
    fn sample_of_all_frames_is_exact() {
        let payload: Vec<u8> = (0..3 * FRAME + 77).map(|i| (i / 999) as u8).collect();
        let len = payload.len() as u64;
        let sample = Sample::read(&payload, len, 10, &NoProgress).unwrap();
        assert_eq!((sample.frames(), sample.sampled()), (4, 4));
        assert!(sample.bytes == payload);
        let encoding = Encoding::new(Codec::Zstd);
        let found = sample.encode(&encoding, &NoProgress).unwrap();
        let mut out = Vec::new();
        let stored = encode_at(&payload, &encoding, Shape::Frames, &mut out, &NoProgress).unwrap();
        assert_eq!((found.size, found.error), (stored.stored_len, 0));
    }

    #[test]
    fn frames_are_in_the_middle_of_equal_parts() {
        let payload: Vec<u8> = (0..9 * FRAME).map(|i| (i / FRAME) as u8).collect();
        let sample = Sample::read(&payload, 9 * FRAME, 3, &NoProgress).unwrap();
        let frames: Vec<_> = sample
            .bytes
            .chunks(FRAME as usize)
            .map(|frame| frame[0])
            .collect();
        assert_eq!(frames, [1, 4, 7]);
        let none = sample.encode(&Encoding::new(Codec::None), &NoProgress);
        assert_eq!(none.unwrap().size, 9 * FRAME);
        let empty = Sample::read(&Vec::new(), 0, 3, &NoProgress).unwrap();
        let found = empty
            .encode(&Encoding::new(Codec::None), &NoProgress)
            .unwrap();
        assert_eq!((found.size, found.error), (0, 0));
    }

    #[test]
    fn error_is_that_of_a_sample_without_replacement() {
        // Mean 4, variance 4, two of four: sqrt(4 / 3 * (1 - 3 / 12)) = 1.
        assert_eq!(standard_error(&[2.0, 4.0, 6.0], 12.0), 1.0);
        assert_eq!(standard_error(&[2.0, 4.0, 6.0], 3.0), 0.0);
        assert_eq!(standard_error(&[2.0], 12.0), 0.0);
    }
}
