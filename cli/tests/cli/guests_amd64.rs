//! A real amd64 QEMU guest in 64-bit mode with registers set through QEMU's gdb stub: a dump over
//! QMP contains them.

use serde_json::Value;

use crate::guests::differing;
use crate::harness::run;
use crate::qemu::{Memory, Qemu, is_installed};
use crate::stub::Stub;

/// Registers: the number in QEMU's `i386-64bit.xml`, the name in a dump, the value.
const SAVED: [(u32, &str, u64); 8] = [
    (1, "rbx", 0xffff_f800_0b0b_0001),
    (6, "rbp", 0xffff_fe00_00be_eff0),
    (7, "rsp", 0xffff_fe00_00be_efd8),
    (12, "r12", 0x1212_1212_1212_1212),
    (13, "r13", 0x1313_1313_1313_1313),
    (14, "r14", 0x1414_1414_1414_1414),
    (15, "r15", 0x1515_1515_1515_1515),
    (16, "rip", 0xffff_ffff_80c0_ffee),
];

#[test]
fn registers_of_a_64_bit_guest_are_those_of_the_dumping_thread() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared);
    let mut stub = Stub::connect(&qemu.path("gdb"), 0);
    stub.long_mode(&qemu.path("machine/ram"));
    stub.set(&SAVED.map(|(number, _, value)| (number, value)));
    drop(stub);
    let plain = qemu.expected();
    for more in [&["--cpu", "0"][..], &["--cpu", "0", "--pause=whole"]] {
        qemu.take("with", &[more, &["-f"]].concat()).expect(0);
        let with = std::fs::read(qemu.path("with")).unwrap();
        let pages = differing(&with, &plain);
        assert!((1..=4).contains(&pages), "{pages} pages differ");
        let printed = run([
            "threads".into(),
            qemu.path("with"),
            "--kernel".into(),
            qemu.path("machine/kernel"),
            "--crashed".into(),
            "--json".into(),
        ]);
        assert!([0, 3].contains(&printed.code), "{}", printed.err);
        let printed: Value = serde_json::from_slice(&printed.out).unwrap();
        let [thread] = &printed["threads"].as_array().unwrap()[..] else {
            panic!("{printed}");
        };
        assert_eq!(thread["cpu"], 0, "{thread}");
        for (_, register, value) in SAVED {
            let found = &thread["registers"][register];
            assert_eq!(*found, format!("{value:#x}"), "{register}");
        }
    }
    // The guest was paused before.
    assert_eq!(qemu.status(), "prelaunch");
}
