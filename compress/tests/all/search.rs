//! Limits of the work and the memory of salvage on streams that are made to be slow.

use std::sync::Arc;

use livecore_compress::salvage::Salvage;
use livecore_compress::{Error, NoProgress, OpenOptions};

use crate::common::threads;

fn options(memory: u64) -> OpenOptions {
    OpenOptions::new().memory(memory).threads(threads(1))
}

/// RFC 8878, 3.1.1.2: a block header.
fn block(last: bool, kind: u32, size: u32) -> [u8; 3] {
    let [a, b, c, _] = (size << 3 | kind << 1 | u32::from(last)).to_le_bytes();
    [a, b, c]
}

const RAW: u32 = 0;
const RLE: u32 = 1;
const BLOCK_MAX: u32 = 128 << 10;

/// `count` blocks of a repeated byte.
fn repeated(count: usize) -> Vec<u8> {
    let blocks = (1..=count).flat_map(|n| [&block(n == count, RLE, BLOCK_MAX)[..], &[0]].concat());
    blocks.collect()
}

/// After a good frame of 64 MiB, each of 2,000 offsets is the start of another one, whose checksum is
/// wrong. The first block of each contains the following frames, and all share the other blocks.
#[test]
fn frames_that_decode_almost_to_their_end_cost_bounded_work() {
    const HEAD: usize = 12;
    let (count, len) = (2000, 64_u32 << 20);
    // A single segment with 4 bytes of content size.
    let mut stream = b"\x28\xb5\x2f\xfd\xa0".to_vec();
    stream.extend(len.to_le_bytes());
    stream.extend(repeated(512));
    for number in 1..=count {
        let rest = (count - number) * HEAD;
        // The same with a checksum.
        stream.extend(b"\x28\xb5\x2f\xfd\xa4");
        stream.extend(len.to_le_bytes());
        stream.extend(block(false, RAW, rest as u32));
    }
    stream.extend(repeated(511));
    stream.extend([0; 4]);
    stream.extend([0xff; 100]);
    let salvage = Salvage::recover(Arc::new(stream), &options(256 << 20), &NoProgress).unwrap();
    assert_eq!(salvage.pieces()[0].content, 0..len.into());
    let found: Vec<_> = salvage.damage().iter().map(|d| d.found.as_str()).collect();
    assert!(
        found.contains(&"too many damaged frames to search the rest"),
        "{found:?}"
    );
}

#[test]
fn frames_of_one_byte_use_bounded_memory() {
    let mut frame = b"\x28\xb5\x2f\xfd\x20\x01".to_vec();
    frame.extend(block(true, RAW, 1));
    frame.push(b'A');
    let stream = Arc::new(frame.repeat(50_000));
    let salvage = Salvage::recover(Arc::clone(&stream) as _, &options(16 << 20), &NoProgress);
    assert_eq!(salvage.unwrap().pieces()[0].content, 0..50_000);
    let error = Salvage::recover(stream, &options(8 << 20), &NoProgress).map(|_| ());
    let Err(Error::Memory { needed, limit, .. }) = error else {
        panic!("{error:?}");
    };
    assert!(needed > limit && limit == 8 << 20);
}
