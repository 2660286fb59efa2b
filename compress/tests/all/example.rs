//! The example program, run on a gzip file.

#[path = "../../examples/repack.rs"]
#[expect(dead_code, reason = "its main is not run here")]
mod repack;

use std::io::Write;

use crate::common::content;

#[test]
fn example_stores_a_gzip_file_as_a_sealed_zstd_file() {
    let bytes = content(300_000, 5);
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("in.gz"), dir.path().join("out.zst"));
    let file = std::fs::File::create(&from).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    gzip.finish().unwrap();

    let mut report = Vec::new();
    repack::repack(&from, &to, &mut report).unwrap();

    let report = String::from_utf8(report).unwrap();
    let middle = format!("in the middle: {:02x?}\n", &bytes[150_000..150_016]);
    assert!(report.starts_with("300000 bytes of content, "), "{report}");
    assert!(report.ends_with(&middle), "{report}");
    // Another decoder reads the same content.
    let decoded = zstd::decode_all(std::fs::File::open(&to).unwrap()).unwrap();
    assert!(decoded == bytes);
}
