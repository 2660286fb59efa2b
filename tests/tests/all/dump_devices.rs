//! Partition tables and headers of dump devices with random damage: no panic, and nothing outside the
//! disk.

use std::sync::Arc;

use livecore_compress::{ReadAt, Window};
use livecore_minidump::dump_device::DumpDevice;
use livecore_minidump::partitions::{Partition, partitions};
use livecore_tests::mkdump;
use livecore_tests::mkimage::disk::{bsd, gpt, mbr};
use livecore_tests::random::Random;

const DEVICE: &str = "minidump amd64 3
    kernbase 0xffffffff80000000
    kernend 0xffffffffc0000000
    avail 0x1000 0x9000
    pages 0x1000 2 seed 1
    container device
";

/// Number of damaged disks.
const DISKS: u64 = 3000;

fn disks(sector: usize) -> Vec<Vec<u8>> {
    let dump = mkdump::build(&format!("{DEVICE}sector {sector}\n")).unwrap();
    let slice = bsd(sector, 64, &[("ufs", &[7; 4096]), ("swap", &dump)]);
    vec![
        gpt(
            sector,
            &[
                ("efi", &[1; 8192]),
                ("freebsd-swap", &dump),
                ("freebsd", &slice),
            ],
        ),
        mbr(sector, &[("83", &dump), ("freebsd", &slice)]),
        slice,
    ]
}

#[test]
fn partitions_have_the_names_and_the_places_of_geom() {
    for sector in [512, 4096] {
        let [gpt, mbr, bsd] = &disks(sector)[..] else {
            panic!("three disks");
        };
        for (disk, names) in [
            (gpt, &["p2", "p3b", "p1", "p3a", "p3"][..]),
            (mbr, &["s2b", "s1", "s2a", "s2"]),
            (bsd, &["b", "a"]),
        ] {
            let found = partitions(disk, sector as u64).unwrap();
            let found: Vec<_> = found.iter().map(|partition| &*partition.name).collect();
            assert_eq!(found, names);
        }
    }
}

#[test]
fn header_without_space_for_its_dump_is_reported() {
    for recipe in [DEVICE, "textdump amd64\ncontainer device\n"] {
        let device = mkdump::build(recipe).unwrap();
        // The trailing header, in the first sector.
        let disk: Arc<dyn ReadAt> = Arc::new(device[device.len() - 512..].to_vec());
        let dump = DumpDevice::find(&disk, None).unwrap().expect("a header");
        assert!(!dump.findings.is_empty());
    }
}

#[test]
fn damaged_tables_and_headers_lead_nowhere_outside_the_disk() {
    let whole: Vec<_> = [512, 4096]
        .into_iter()
        .flat_map(|sector| disks(sector).into_iter().map(move |disk| (sector, disk)))
        .collect();
    for seed in 1..=DISKS {
        let mut random = Random::new(seed);
        let (sector, disk) = &whole[random.index(whole.len())];
        let mut disk = disk.clone();
        let size = disk.len();
        for _ in 0..=random.below(4) {
            // In the tables, at their copy, or in a header of the dump.
            let at = match random.below(3) {
                0 => random.index((4 * sector).min(size)),
                1 => size - 1 - random.index((34 * 512).min(size)),
                _ => {
                    let headers = disk.windows(7).enumerate();
                    let headers: Vec<_> = headers
                        .filter(|(_, bytes)| bytes == b"FreeBSD")
                        .map(|(at, _)| at)
                        .collect();
                    headers
                        .get(random.index(headers.len()))
                        .map_or(0, |at| at + random.index(512))
                }
            };
            disk[at.min(size - 1)] = match random.below(3) {
                0 => 0xff,
                1 => 0,
                _ => random.next() as u8,
            };
        }
        if random.one_in(4) {
            disk.truncate(random.index(size));
        }
        check(disk, *sector as u64, seed);
    }
}

fn check(disk: Vec<u8>, sector: u64, seed: u64) {
    let size = disk.len() as u64;
    let disk: Arc<dyn ReadAt> = Arc::new(disk);
    for sector in [sector, 512, 4096, 0, 3] {
        for Partition {
            start, len, name, ..
        } in partitions(&*disk, sector).unwrap()
        {
            let end = start.checked_add(len);
            assert!(
                len > 0 && end.is_some_and(|end| end <= size),
                "seed {seed}: {name}"
            );
            let region: Arc<dyn ReadAt> = Arc::new(Window::new(Arc::clone(&disk), start, len));
            let Ok(Some(dump)) = DumpDevice::find(&region, Some(sector)) else {
                continue;
            };
            let _ = dump.key_block(&*region);
            let restored = dump.restored(&region, true);
            if let Some(data) = dump.data(&restored) {
                assert!(data.size().unwrap() <= len, "seed {seed}");
            }
            assert!(
                !dump.findings.is_empty() || dump.data(&region).is_some(),
                "seed {seed}"
            );
        }
    }
}
