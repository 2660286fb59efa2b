//! Dumps paired with their kernels, through the public API and the example.

#[path = "../../examples/backtraces.rs"]
#[allow(dead_code, reason = "the example's main")]
mod backtraces;

use std::error::Error;
use std::path::{Path, PathBuf};

use livecore_compress::ReadAt;
use livecore_kernel::{Dump, PairError};
use livecore_livedump::take::{PlanOptions, plan};
use livecore_minidump::KernelElf;
use livecore_synth::{Description, build};

/// Writes the dump of an emulated machine and its kernel to a temporary directory.
fn crash(text: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let machine = build(&Description::parse(text).unwrap()).unwrap();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
    let payload = taken.payload();
    let mut bytes = vec![0; usize::try_from(payload.size().unwrap()).unwrap()];
    payload.read_exact_at(&mut bytes, 0).unwrap();
    // A raw live file: the header follows the payload's last page.
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes.extend(taken.header().with_parity().encode());
    let directory = tempfile::tempdir().unwrap();
    let (dump, kernel) = (
        directory.path().join("vmcore.0"),
        directory.path().join("kernel"),
    );
    std::fs::write(&dump, bytes).unwrap();
    std::fs::write(&kernel, machine.kernel()).unwrap();
    (directory, dump, kernel)
}

const MACHINE: &str = "seed = 7\n[memory]\nsize = \"16 MiB\"\n[state]\npanic = \"page fault\"\n";

fn printed(dump: &Path, kernel: Option<&Path>) -> Result<String, Box<dyn Error>> {
    let mut text = Vec::new();
    backtraces::print(dump, kernel, &mut text)?;
    Ok(String::from_utf8(text)?)
}

#[test]
fn example_prints_backtraces_and_a_variable() {
    let (_directory, dump, kernel) = crash(MACHINE);
    let text = printed(&dump, Some(&kernel)).unwrap();
    assert!(text.contains("\n  0x"), "{text}");
    assert!(text.contains("fork_trampoline+"), "{text}");
    assert!(text.ends_with("hz 1000\n"), "{text}");
    // Without a path, the kernel is found next to the dump.
    assert_eq!(printed(&dump, None).unwrap(), text);
}

#[test]
fn kernel_of_another_build_is_refused_and_not_found() {
    let (_directory, dump, kernel) = crash(MACHINE);
    let (_other, _, another) = crash(&format!("{MACHINE}[kernel]\nident = \"ANOTHER\"\n"));
    let opened = Dump::open(&dump).unwrap();
    match opened.kernel(&another) {
        Err(PairError::AnotherKernel { .. }) => {}
        other => panic!("{:?}", other.err()),
    }
    std::fs::copy(&another, &kernel).unwrap();
    match opened.find_kernel() {
        Err(PairError::NotFound { rejected }) => assert_eq!(rejected[0].path, kernel),
        other => panic!("{:?}", other.err()),
    }
}

/// The dump has other data at the address of the other kernel's version string.
#[test]
fn refusal_of_another_kernel_names_both_versions() {
    let (_directory, dump, _) = crash(MACHINE);
    // More functions move the variables to other addresses.
    let other = format!("{MACHINE}[kernel]\nident = \"ANOTHER\"\nfunctions = 4000\n");
    let (_other, _, another) = crash(&other);
    match Dump::open(&dump).unwrap().kernel(&another) {
        Err(PairError::AnotherKernel { what, kernel, dump }) => {
            assert_eq!(what, "version");
            assert!(kernel.starts_with("\"FreeBSD 14.0"), "{kernel}");
            assert!(kernel.contains("ANOTHER"), "{kernel}");
            assert!(dump.starts_with("\"FreeBSD 14.0"), "{dump}");
            assert!(dump.contains("SYNTH"), "{dump}");
        }
        other => panic!("{:?}", other.err()),
    }
}
