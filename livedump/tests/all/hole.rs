//! Raw images of machines with a hole below 4 GiB, without a given layout.

use livecore_minidump::PhysAddr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use livecore_compress::ReadAt;
use livecore_livedump::image::{self, Options, RawLayout};
use livecore_livedump::take::{PlanOptions, plan, settle};
use livecore_minidump::KernelElf;
use livecore_synth::Machine;

const CHUNK: u64 = 1 << 20;

/// Writes RAM as hypervisors store it: without the hole, and with file holes for zeros.
fn write(machine: &Machine, low: u64, path: &Path) {
    let memory = machine.memory();
    let ranges = memory.ranges();
    let offset = |at: u64| if at <= low { at } else { at - (4 << 30) + low };
    let file = File::create(path).unwrap();
    file.set_len(offset(ranges.last().unwrap().end.0)).unwrap();
    let mut chunk = vec![0; CHUNK as usize];
    for range in ranges {
        let (mut at, end) = (range.start.0, range.end.0);
        while at < end {
            let len = (end - at).min(CHUNK - at % CHUNK);
            if !memory.known_zero(PhysAddr(at), len) {
                let chunk = &mut chunk[..len as usize];
                memory.read(PhysAddr(at), chunk).unwrap();
                file.write_all_at(chunk, offset(at)).unwrap();
            }
            at += len;
        }
    }
}

fn payload(taken: &livecore_livedump::take::Taken) -> Vec<u8> {
    let payload = taken.payload();
    let mut bytes = vec![0; payload.size().unwrap() as usize];
    payload.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn hole_is_found_through_the_kernel() {
    for (text, low) in [
        (
            include_str!("../../../testdata/machines/relocated.toml"),
            64 << 20,
        ),
        // Slightly more than 2 GiB, with a kernel whose page tables are all low.
        (
            "seed = 3\n[memory]\nsize = \"2080 MiB\"\nlow = \"2 GiB\"\n[kernel]\nrelease = \"12.1\"\n",
            2 << 30,
        ),
    ] {
        let machine = Machine::parse(text).unwrap();
        let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ram");
        write(&machine, low, &path);
        let options = Options::default().kernel_is_asked(true);
        let mut image = image::open(&path, &options).unwrap();
        assert_eq!(image.layout, Some(RawLayout::Flat));
        settle(&mut image, &elf).unwrap();
        assert_eq!(image.layout, Some(RawLayout::Hole { below: low }));
        let mut image = image::open(&path, &Options::default()).unwrap();
        settle(&mut image, &elf).unwrap();
        assert_eq!(image.layout, Some(RawLayout::Hole { below: low }));
        assert_eq!(image.guess(), None);
        let [note] = &image.notes[..] else {
            panic!("{:?}", image.notes);
        };
        assert!(note.contains(&format!("pc:{low:#x}")), "{note}");
        let options = PlanOptions::default();
        let found = plan(image.memory.clone(), &elf, &options).unwrap();
        let expected = plan(machine.memory(), &elf, &options).unwrap();
        assert!(payload(&found) == payload(&expected));
    }
}

#[test]
fn given_layout_is_not_changed() {
    let text = include_str!("../../../testdata/machines/tiny.toml");
    let machine = Machine::parse(text).unwrap();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ram");
    write(&machine, 32 << 20, &path);
    let options = Options::default().layout(RawLayout::Pc);
    let mut image = image::open(&path, &options).unwrap();
    settle(&mut image, &elf).unwrap();
    assert_eq!(image.layout, Some(RawLayout::Pc));
    // A file without a hole has no message.
    let mut found = image::open(&path, &Options::default()).unwrap();
    settle(&mut found, &elf).unwrap();
    assert_eq!(found.layout, Some(RawLayout::Flat));
    assert_eq!(found.notes, [""; 0]);
}
