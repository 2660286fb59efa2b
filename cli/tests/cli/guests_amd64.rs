//! An amd64 guest of a real QEMU's in 64-bit mode, its registers set through QEMU's own stub of gdb:
//! over QMP they are where debuggers look.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::guests::{Memory, PATIENCE, Qemu, differing, is_there};
use crate::harness::run;

/// Numbers of registers in QEMU's `i386-64bit.xml`, their names in a dump, and what they are set to.
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
const CS: u32 = 18;
const CR0: u32 = 27;
const CR3: u32 = 29;
const CR4: u32 = 30;
const EFER: u32 = 32;

/// Sets registers of processor 0, one by one.
fn set(qemu: &Qemu, registers: &[(u32, u64)]) {
    let mut gdb = UnixStream::connect(qemu.path("gdb")).unwrap();
    gdb.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut packet = |text: &str| {
        let sum = text.bytes().fold(0_u8, u8::wrapping_add);
        write!(gdb, "${text}#{sum:02x}").unwrap();
        let mut answer = Vec::new();
        // An answer ends with '#' and two digits; '+' and stop replies may come before.
        while answer.len() < 4 || answer[answer.len() - 3] != b'#' {
            let mut byte = [0];
            gdb.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        gdb.write_all(b"+").unwrap();
        String::from_utf8(answer).unwrap()
    };
    // Who has read the description of registers may write them one by one.
    packet("qXfer:features:read:target.xml:0,ffb");
    for (number, value) in registers {
        let bytes = value.to_le_bytes().map(|b| format!("{b:02x}")).concat();
        let answer = packet(&format!("P{number:x}={bytes}"));
        assert!(answer.contains("$OK#"), "register {number}: {answer}");
    }
    // Not `D`, which lets the guest run.
    gdb.shutdown(Shutdown::Both).unwrap();
}

/// Brings processor 0 into 64-bit mode, by tables and a descriptor that are in its memory only for
/// so long.
fn long_mode(qemu: &Qemu) {
    let ram = qemu.path("machine/ram");
    let ram = File::options().read(true).write(true).open(ram).unwrap();
    let mut before = vec![0; 0xb000];
    ram.read_exact_at(&mut before, 0).unwrap();
    let put = |at, word: u64| ram.write_all_at(&word.to_le_bytes(), at).unwrap();
    // A code segment of 64 bits, and the first 2 MiB where they are.
    put(8, 0x00af_9b00_0000_ffff);
    put(0x8000, 0x9003);
    put(0x9000, 0xa003);
    put(0xa000, 0x83);
    set(
        qemu,
        &[
            (CR4, 1 << 5),
            (EFER, 1 << 8),
            (CR3, 0x8000),
            (CR0, 1 << 31 | 0x33),
            (CS, 8),
        ],
    );
    ram.write_all_at(&before, 0).unwrap();
}

#[test]
fn registers_of_a_guest_in_64_bit_mode_are_those_of_the_dumping_thread() {
    if !is_there() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared);
    long_mode(&qemu);
    set(&qemu, &SAVED.map(|(number, _, value)| (number, value)));
    let plain = qemu.expected();
    for more in [&["--cpu", "0"][..], &["--cpu", "0", "--pause=whole"]] {
        qemu.take("with", &[more, &["-f"]].concat()).expect(0);
        let with = std::fs::read(qemu.path("with")).unwrap();
        let pages = differing(&with, &plain);
        assert!((1..=4).contains(&pages), "{pages} pages differ");
        let told = run([
            "threads".into(),
            qemu.path("with"),
            "--kernel".into(),
            qemu.path("machine/kernel"),
            "--crashed".into(),
            "--json".into(),
        ]);
        assert!([0, 3].contains(&told.code), "{}", told.err);
        let told: Value = serde_json::from_slice(&told.out).unwrap();
        let [thread] = &told["threads"].as_array().unwrap()[..] else {
            panic!("{told}");
        };
        assert_eq!(thread["cpu"], 0, "{thread}");
        for (_, register, value) in SAVED {
            let found = &thread["registers"][register];
            assert_eq!(*found, format!("{value:#x}"), "{register}");
        }
    }
    // Others had paused it.
    assert_eq!(qemu.status(), "prelaunch");
}
