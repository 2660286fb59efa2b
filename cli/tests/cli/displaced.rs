//! A powerpc64 kernel that runs at another address than its link address, which the dump records.

use std::fs;
use std::path::{Path, PathBuf};

use livecore_tests::{mkdump, mkelf};

use crate::harness::{golden, run, run_json};

/// The link address of the kernel's variables. They run in the direct map, at this physical
/// address.
const LINKED: u64 = 0x10_1000;
const RUNS: u64 = 0xc000_0000_0010_1000;

/// Builds a dump of a process with one thread `idle`, and a directory with the kernel file.
fn made(dir: &Path, version: &str) -> (PathBuf, PathBuf) {
    let mut dump = String::from(
        "minidump powerpc64 2\nstartkernel 0xc000000000100100\navail 0x0 0x200000\n\
         map 0xc008000000000000 0x1000 4K rw\npage 0x1000 fill 0\npages 0x101000 2 fill 0\n",
    );
    let mut kernel = format!(
        "elf powerpc64\nsection .data {LINKED:#x} zero len 0x100\n\
         section .version {:#x} text \"FreeBSD 12.1 displaced\" len 64\n\
         symbol version {:#x} size 64\nsymbol allproc {:#x}\nsymbol osreldate {:#x}\n",
        LINKED + 0x100,
        LINKED + 0x100,
        LINKED + 0x80,
        LINKED + 0x90,
    );
    let (process, thread) = (0x400, 0x600);
    let offsets = [
        ("proc_off_p_list", 0),
        ("proc_off_p_pid", 0x20),
        ("proc_off_p_comm", 0x28),
        ("proc_off_p_threads", 0x40),
        ("thread_off_td_plist", 0x08),
        ("thread_off_td_tid", 0x20),
        ("thread_off_td_name", 0x28),
        ("thread_off_td_pcb", 0x48),
        ("thread_off_td_oncpu", 0x50),
        ("pcb_size", 0x500),
    ];
    for (number, (name, offset)) in (0..).zip(offsets) {
        let at = LINKED + 4 * number;
        dump += &format!("put {at:#x} u32 {offset:#x}\n");
        kernel += &format!("symbol {name} {at:#x} size 4\n");
    }
    for (at, width, value) in [
        (0x80, 64, RUNS + process),
        (0x90, 32, 1_201_000),
        (process + 0x20, 32, 7),
        (process + 0x40, 64, RUNS + thread),
        (thread + 0x20, 32, 100_042),
        (thread + 0x48, 64, RUNS + 0x800),
        (thread + 0x50, 32, 0xffff_ffff),
    ] {
        dump += &format!("put {:#x} u{width} {value:#x}\n", LINKED + at);
    }
    for (at, text) in [
        (0x100, version),
        (process + 0x28, "idle"),
        (thread + 0x28, "idle"),
    ] {
        dump += &format!("put {:#x} text \"{text}\"\n", LINKED + at);
    }
    let (at, place) = (dir.join("vmcore.0"), dir.join("kernels"));
    fs::create_dir_all(&place).unwrap();
    let file = place.join("kernel");
    fs::write(
        &at,
        mkdump::build(&dump).unwrap_or_else(|e| panic!("{e}\n{dump}")),
    )
    .unwrap();
    fs::write(
        &file,
        mkelf::build(&kernel).unwrap_or_else(|e| panic!("{e}\n{kernel}")),
    )
    .unwrap();
    (at, place)
}

#[test]
fn core_of_a_displaced_kernel_has_its_threads() {
    let dir = tempfile::tempdir().unwrap();
    let (dump, place) = made(dir.path(), "FreeBSD 12.1 displaced");
    let core = dir.path().join("core");
    // The kernel matches because its version is at the run-time address; the dump has no header.
    let printed = run_json([
        "convert".as_ref(),
        "--to".as_ref(),
        "elf".as_ref(),
        "--kernel-path".as_ref(),
        place.as_os_str(),
        dump.as_os_str(),
        core.as_os_str(),
    ]);
    assert_eq!(printed.count("kernel-used"), 1, "{}", printed.err);
    printed.warnings(&[]);
    let bytes = fs::read(&core).unwrap();
    // The notes precede the first page of the dump.
    let head = &bytes[..0x1000];
    let name = b"(pid 7) idle\0";
    assert!(
        head.windows(name.len()).any(|w| w == name),
        "{}",
        printed.err
    );
}

#[test]
fn displaced_kernel_of_another_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (dump, place) = made(dir.path(), "FreeBSD 12.2 another");
    let core = dir.path().join("core");
    let args = ["convert", "--to", "elf", "--kernel-path"].map(AsRef::as_ref);
    let files = [&place, &dump, &core].map(|path| path.as_os_str());
    let printed = run(args.into_iter().chain(files)).err;
    let printed = printed.replace(dir.path().to_str().unwrap(), "DIR");
    // The last line has the speed.
    let (why, _) = printed.split_at(printed.find('\n').unwrap() + 1);
    golden("messages/displaced-kernel.txt", why);
}
