//! The example program, run on a machine written to files.

#[path = "../../examples/take.rs"]
#[expect(dead_code, reason = "its main is not run here")]
mod take;

use livecore_minidump::{Dump, OpenOptions};
use livecore_synth::{Description, build, write_out};

#[test]
fn example_takes_a_dump_of_an_image() {
    let text = include_str!("../../../testdata/machines/tiny.toml");
    let machine = build(&Description::parse(text).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("machine");
    write_out(&machine, &image).unwrap();
    let out = dir.path().join("dump.zst");
    let done = take::dump(&image, &image.join("kernel"), &out).unwrap();
    assert_eq!(done.published.path, out);
    let dump = Dump::open(&out, &OpenOptions::default()).unwrap();
    assert_eq!(dump.bitmap().count(), machine.truth().dumped_pages());
}
