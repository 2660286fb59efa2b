//! Reads single streams with a file of restart points.

use std::sync::OnceLock;

use xxhash_rust::xxh64::xxh64;

#[path = "../../../compress/tests/all/kept.rs"]
mod kept;
#[path = "../../examples/fuzz-seeds/single.rs"]
mod single;

use kept::Kept;

/// The streams, one for each codec.
fn streams() -> &'static [Kept] {
    static STREAMS: OnceLock<Vec<Kept>> = OnceLock::new();
    STREAMS.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("livecore-restarts-{}", std::process::id()));
        let streams = single::streams().into_iter();
        let kept = streams.map(|(codec, stored, content)| {
            Kept::new(&dir.join(codec.to_string()), &stored, content)
        });
        kept.collect()
    })
}

/// Asserts that a stream reads as without a file of restart points, or that the error names it. The
/// first byte selects the stream, and whether the digests of header and tables are recomputed; the
/// other bytes are the file.
pub fn restarts(bytes: &[u8]) {
    let Some((selector, file)) = bytes.split_first() else {
        return;
    };
    let streams = streams();
    let stream = &streams[usize::from(*selector) % streams.len()];
    let mut file = file.to_vec();
    if selector & 2 != 0 {
        fix_digests(&mut file);
    }
    let used = stream.read(&file, "restart points");
    assert!(used || file != stream.good(), "restart points are not used");
}

/// Recomputes the digests of the header and of the tables.
fn fix_digests(file: &mut [u8]) {
    let Some(at) = file.get(64..72).and_then(|bytes| bytes.first_chunk()) else {
        return;
    };
    let tables = usize::try_from(u64::from_le_bytes(*at)).ok();
    if let Some(digest) = tables.and_then(|at| file.get(at..)).map(|b| xxh64(b, 0)) {
        super::put(file, 72, digest);
    }
    if let Some(digest) = file.get(..80).map(|bytes| xxh64(bytes, 0)) {
        super::put(file, 80, digest);
    }
}
