//! Raw memory of arm64 and riscv64 machines that does not begin at address 0.

use livecore_minidump::PhysAddr;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use livecore_compress::ReadAt;
use livecore_kernel::locate::LocateError;
use livecore_livedump::image::{self, Image, Options, RawLayout};
use livecore_livedump::take::{PlanOptions, TakeError, Taken, plan, settle};
use livecore_minidump::mmu::Paging;
use livecore_minidump::{KernelElf, KernelMemory, VirtAddr};
use livecore_synth::Machine;

const MIB: u64 = 1 << 20;

fn machine(text: &str) -> (Machine, KernelElf) {
    let machine = Machine::parse(text).unwrap();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    (machine, elf)
}

fn addresses(bank: &Range<u64>) -> Range<PhysAddr> {
    PhysAddr(bank.start)..PhysAddr(bank.end)
}

/// Writes banks without gaps, as a hypervisor stores them; addresses without memory are zeros.
fn write(machine: &Machine, banks: &[Range<u64>], path: &Path) {
    let memory = machine.memory();
    let file = File::create(path).unwrap();
    let mut offset = 0;
    for bank in banks {
        for range in memory.ranges() {
            let (start, end) = (range.start.0.max(bank.start), range.end.0.min(bank.end));
            for at in (start..end).step_by(MIB as usize) {
                let mut chunk = vec![0; (end - at).min(MIB) as usize];
                memory.read(PhysAddr(at), &mut chunk).unwrap();
                let to = offset + at - bank.start;
                file.write_all_at(&chunk, to).unwrap();
            }
        }
        offset += bank.end - bank.start;
    }
    file.set_len(offset).unwrap();
}

fn opened(path: &Path) -> Image {
    let options = Options::default().kernel_is_asked(true);
    image::open(path, &options).unwrap()
}

fn payload(taken: &Taken) -> Vec<u8> {
    let payload = taken.payload();
    let mut bytes = vec![0; payload.size().unwrap() as usize];
    payload.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn planned(memory: std::sync::Arc<dyn livecore_minidump::PhysMemory>, elf: &KernelElf) -> Taken {
    plan(memory, elf, &PlanOptions::default()).unwrap()
}

#[test]
fn start_of_a_single_bank_is_found_through_the_kernel() {
    for (text, start) in [
        (
            include_str!("../../../testdata/machines/arm64-16k.toml"),
            0x4000_0000,
        ),
        (
            "seed = 5\narchitecture = \"aarch64\"\n[memory]\nsize = \"48 MiB\"\n\
             [kernel]\nrelease = \"14.0\"\n",
            0x4000_0000,
        ),
        (
            include_str!("../../../testdata/machines/riscv64-sv48.toml"),
            0x8000_0000,
        ),
        (
            "seed = 6\narchitecture = \"riscv64\"\n[memory]\nsize = \"48 MiB\"\n\
             [kernel]\nrelease = \"15.0\"\n",
            0x8000_0000,
        ),
    ] {
        let (machine, elf) = machine(text);
        let memory = machine.memory();
        let end = memory.ranges().last().unwrap().end.0;
        let expected = payload(&planned(memory, &elf));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ram");
        // The kernel may know less memory than there is.
        for more in [0, 64 * MIB] {
            let bank = start..end + more;
            write(&machine, std::slice::from_ref(&bank), &path);
            let mut image = opened(&path);
            assert_eq!(image.layout, Some(RawLayout::Flat));
            settle(&mut image, &elf).unwrap();
            assert_eq!(
                image.layout,
                Some(RawLayout::Ranges(vec![(addresses(&bank), 0)]))
            );
            assert_eq!(image.guess(), None);
            let [note] = &image.notes[..] else {
                panic!("{:?}", image.notes);
            };
            let layout = format!("--layout {:#x}-{:#x}@0x0", bank.start, bank.end);
            assert!(note.contains(&layout), "{note}");
            assert!(payload(&planned(image.memory, &elf)) == expected);
        }
        // If offsets are addresses, the layout is flat without a message.
        write(&machine, std::slice::from_ref(&(0..end)), &path);
        let mut image = opened(&path);
        settle(&mut image, &elf).unwrap();
        assert_eq!(image.layout, Some(RawLayout::Flat));
        assert_eq!(image.guess(), None);
        assert_eq!(image.notes, [""; 0]);
        assert!(payload(&planned(image.memory, &elf)) == expected);
    }
}

#[test]
fn several_banks_are_an_error_that_differs_from_another_kernels() {
    for text in [
        include_str!("../../../testdata/machines/arm64.toml"),
        include_str!("../../../testdata/machines/riscv64.toml"),
    ] {
        let (machine, elf) = machine(text);
        let memory = machine.memory();
        let ranges = memory.ranges().iter().map(|r| r.start.0..r.end.0);
        let ranges: Vec<_> = ranges.collect();
        // Banks are far from each other; holes in them are small.
        let gap = (1..ranges.len()).find(|i| ranges[*i].start - ranges[i - 1].end > 16 * MIB);
        let gap = gap.unwrap();
        let banks = [
            ranges[0].start..ranges[gap - 1].end,
            ranges[gap].start..ranges.last().unwrap().end,
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ram");
        write(&machine, &banks, &path);
        let mut image = opened(&path);
        settle(&mut image, &elf).unwrap();
        assert_eq!(image.layout, Some(RawLayout::Flat));
        assert!(image.guess().is_some());
        let error = plan(image.memory, &elf, &PlanOptions::default());
        let error = error.err().unwrap();
        let misplaced = matches!(
            error,
            TakeError::Locate(LocateError::NoKernel {
                misplaced: true,
                ..
            })
        );
        assert!(misplaced, "{error}");
        // The layout is given.
        let first = banks[0].end - banks[0].start;
        let options = Options::default().layout(RawLayout::Ranges(vec![
            (addresses(&banks[0]), 0),
            (addresses(&banks[1]), first),
        ]));
        let image = image::open(&path, &options).unwrap();
        assert!(payload(&planned(image.memory, &elf)) == payload(&planned(memory, &elf)));

        // Another kernel is not found at all.
        let other = text.replacen("seed = ", "seed = 9", 1);
        let other = other.replacen("hostname = \"", "ident = \"OTHER\"\nhostname = \"", 1);
        let (_, elf) = self::machine(&other);
        let mut image = opened(&path);
        settle(&mut image, &elf).unwrap();
        let error = plan(image.memory, &elf, &PlanOptions::default());
        let error = error.err().unwrap();
        let absent = matches!(
            error,
            TakeError::Locate(LocateError::NoKernel {
                misplaced: false,
                ..
            })
        );
        assert!(absent, "{error}");
    }
}

/// With LPA2 and 16 KiB pages, the direct map has blocks of 64 GiB at level 1.
#[test]
fn block_of_64_gib_of_the_direct_map_is_read() {
    let text = include_str!("../../../testdata/machines/arm64-lpa2-16k.toml");
    let text = text.replace(
        "\"96 MiB\"",
        "\"65 GiB\"\nlow = \"1 GiB\"\nvm_page_array = false",
    );
    let (machine, elf) = machine(&text);
    let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
    assert_eq!(taken.machine.located.paging, Paging::Arm64Lpa2Pages16K);
    // 16 GiB into the second bank, which starts 128 GiB above 2^50.
    let pa = PhysAddr((1 << 50) + (144 << 30));
    let va = VirtAddr(0xffff_a000_0000_0000 + (144 << 30));
    assert_eq!(taken.machine.view.translate(va).unwrap(), pa);
}
