//! `save` on block devices: loop devices of Linux, where the tests may create them.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::harness::{names, run, run_json};
use crate::save::{MINIDUMP, Place, TEXT, content};

/// A loop device, detached when it is dropped.
struct Loop(String);

impl Loop {
    /// The image of `place` as a device with sectors of `sector` bytes; `None` if that is not possible.
    fn new(place: &Place, sector: &str) -> Option<Self> {
        let output = Command::new("losetup")
            .args(["-f", "--show", "-b", sector])
            .arg(place.image())
            .output();
        let device = output.ok().filter(|output| output.status.success());
        let device = device.and_then(|output| String::from_utf8(output.stdout).ok());
        if device.is_none() {
            let _ = std::io::stderr().write_all(b"skipped: no loop devices\n");
        }
        device.map(|name| Self(name.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

#[test]
fn dump_on_a_block_device_is_read_by_its_sectors_saved_and_cleared() {
    for (kind, sector, name) in [
        (MINIDUMP, "512", "vmcore.0.zst"),
        (MINIDUMP, "4096", "vmcore.0.zst"),
        (TEXT, "512", "textdump.tar.0"),
    ] {
        let place = Place::new(&format!("{kind}sector {sector}\n"));
        let Some(device) = Loop::new(&place, sector) else {
            return;
        };
        let crash = place.crash();
        run(["info", &device.0]).expect(0);
        run(["dmesg", &device.0]).expect(0);
        run(["save", "-C", &device.0]).expect(0);
        let image = place.image();
        let of_image = run(["verify", image.to_str().unwrap()]);
        assert_ne!(of_image.code, 2);
        run(["verify", &device.0]).expect(of_image.code);
        if kind == MINIDUMP {
            run(["compare", &device.0, image.to_str().unwrap()]).expect(0);
        }
        place.is_untouched();
        run_json(["save", crash.to_str().unwrap(), &device.0]).expect(0);
        drop(device);
        assert_eq!(
            content(&place.saved(name)),
            place.built.payload,
            "{name}, {sector}"
        );
        place.is_cleared(sector.parse().unwrap());
    }
}

#[test]
fn device_with_other_sectors_than_the_dump_has_no_dump() {
    let place = Place::new(&format!("{MINIDUMP}sector 512\ndevice_size 0x200000\n"));
    let Some(device) = Loop::new(&place, "4096") else {
        return;
    };
    let crash = place.crash();
    let args = [Path::new("save"), &crash, Path::new(&device.0)];
    let run = run_json(args).expect(0);
    assert_eq!(run.count("no-dump-on-device"), 1, "{}", run.err);
    assert_eq!(names(&crash), [""; 0]);
}
