//! A real QEMU whose guest is an i386 kernel's: 10.4's and 12.1's forms of address space, with and
//! without PAE, paging on, dumped in every format; registers of a processor go where debuggers look.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;

use livecore_kernel::{Context, Kernel};
use livecore_livedump::image::Image;
use livecore_livedump::take::{PlanOptions, Taken, plan};
use livecore_minidump::{Dump, KernelElf, KernelMemory, OpenOptions, VirtAddr};
use livecore_synth::Machine;

use super::qemu::{Qemu, backend, compare, has_qemu};

const GUESTS: [(&str, &str, bool); 3] = [
    (
        "12.1",
        include_str!("../../../../testdata/machines/i386-12.1.toml"),
        false,
    ),
    (
        "12.1 PAE",
        include_str!("../../../../testdata/machines/i386-pae-12.1.toml"),
        true,
    ),
    (
        "10.4 PAE",
        include_str!("../../../../testdata/machines/i386-pae-10.4.toml"),
        true,
    ),
];

/// Numbers of registers in QEMU's `i386-64bit.xml`, which it uses for any guest.
const EBX: u32 = 1;
const ESI: u32 = 4;
const EDI: u32 = 5;
const EBP: u32 = 6;
const ESP: u32 = 7;
const EIP: u32 = 16;
const FS_BASE: u32 = 24;
const CR0: u32 = 27;
const CR3: u32 = 29;
const CR4: u32 = 30;

/// What the registers are set to, by their names in a pcb.
const SAVED: [(u32, &str, u64); 6] = [
    (EDI, "edi", 0xd1d1_0001),
    (ESI, "esi", 0x5151_0002),
    (EBP, "ebp", 0xc0de_0ff8),
    (ESP, "esp", 0xc0de_0fd0),
    (EBX, "ebx", 0xb0b0_0003),
    (EIP, "eip", 0x00c0_ffee),
];

fn planned(image: &Image, elf: &KernelElf) -> Taken {
    plan(image.memory.clone(), elf, &PlanOptions::default()).unwrap()
}

fn bytes(taken: &Taken) -> Vec<u8> {
    let mut bytes = Vec::new();
    let payload = taken.payload();
    let size = livecore_compress::ReadAt::size(&payload).unwrap();
    bytes.resize(size as usize, 0);
    livecore_compress::ReadAt::read_exact_at(&payload, &mut bytes, 0).unwrap();
    bytes
}

fn opened(bytes: &[u8]) -> Dump {
    let source = std::sync::Arc::new(bytes.to_vec());
    Dump::from_source(source, &OpenOptions::default()).unwrap()
}

/// Offsets of the pages that differ.
fn differing(a: &[u8], b: &[u8]) -> BTreeSet<usize> {
    assert_eq!(a.len(), b.len());
    let pages = a.chunks(4096).zip(b.chunks(4096)).enumerate();
    pages.filter(|(_, (a, b))| a != b).map(|(i, _)| i).collect()
}

fn every_format(name: &str, text: &str, pae: bool) {
    let dir = tempfile::tempdir().unwrap();
    let machine: Machine = Machine::parse(text).unwrap();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let memory = machine.memory();
    let mut low = memory.ranges().iter().filter(|r| r.start < 4 << 30);
    let below = low.next_back().unwrap().end;
    let ram = dir.path().join("ram");
    let size = backend(&machine, below, &ram);
    let mut qemu = Qemu::start(
        dir.path(),
        &[
            "-M".into(),
            format!("pc,memory-backend=mem,max-ram-below-4g={below}"),
            "-m".into(),
            format!("{}M", size >> 20),
            "-object".into(),
            format!(
                "memory-backend-file,id=mem,size={size},mem-path={},share=on",
                ram.display()
            ),
        ],
    );

    let truth = machine.truth();
    let on_cpu = |cpu: u32| truth.threads.iter().find(|t| t.cpu == Some(cpu)).unwrap();
    let expected = on_cpu(0);
    // A word of memory that has the address of the thread on the CPU does for `struct pcpu`: the
    // head of its process's list of threads. Where that is another thread, numbers tell.
    let offset = elf.symbol("proc_off_p_threads").unwrap().value;
    let offset = elf.bytes_at(offset, 4).unwrap().bytes;
    let offset = u32::from_le_bytes(offset.try_into().unwrap());
    let pcpu = truth.processes.iter().find_map(|process| {
        let mut threads = truth.threads.iter();
        let first = threads.find(|thread| thread.pid == process.pid)?;
        (first.va == expected.va).then_some(process.va + u64::from(offset))
    });
    let mut registers = SAVED.map(|(number, _, value)| (number, value)).to_vec();
    // What a CPU's root is, no dump depends on: this one is a page of zeros.
    let root = 0x5000;
    let paging = [
        (CR4, if pae { 1 << 5 } else { 0 }),
        (CR3, root),
        (CR0, 1 << 31 | 0x11),
    ];
    registers.extend(paging);
    registers.push((FS_BASE, pcpu.unwrap_or(0)));
    qemu.set(0, &registers);
    // The other one is in the kernel as well.
    let mut others = vec![(ESP, 0xc0de_1fd0), (EIP, 0x00c0_abba)];
    others.extend(paging);
    qemu.set(1, &others);

    let raw = {
        let options = livecore_livedump::image::Options {
            layout: Some(format!("pc:{below}").parse().unwrap()),
            ..livecore_livedump::image::Options::default()
        };
        livecore_livedump::image::open(&ram, &options).unwrap()
    };
    let plain = bytes(&planned(&raw, &elf));
    let mut with_registers: Option<Vec<u8>> = None;
    for format in qemu.formats() {
        let what = format!("{name}, {format}");
        let image = qemu.dump(&format, false);
        compare(&machine, &image, &what);
        let mut taken = planned(&image, &elf);
        assert!(bytes(&taken) == plain, "{what}");

        let [cpu, other] = image.cpus[..] else {
            panic!("{what}: {} processors", image.cpus.len());
        };
        let (cpu, other) = (cpu.x86().unwrap(), other.x86().unwrap());
        assert!(cpu.is_32 && other.is_32, "{what}");
        let control = cpu.control.unwrap();
        assert!(control.paging(), "{what}");
        assert_eq!(control.root(), root, "{what}");
        assert_eq!(control.cr4 >> 5 & 1 == 1, pae, "{what}");

        taken.put_cpus(&elf, &image.cpus, Some(0)).unwrap();
        let told = taken.told().provenance().cpus;
        assert_eq!(told.len(), 2, "{what}: {:?}", taken.notes);
        assert_eq!(told[0].tid, Some(expected.tid as i32), "{what}");
        let changed = bytes(&taken);
        let dump = opened(&changed);

        // Only pages of these variables differ.
        let mut allowed = BTreeSet::new();
        for variable in ["dumptid", "dumppcb", "stoppcbs", "stopped_cpus"] {
            let symbol = elf.symbol(variable).unwrap();
            for va in symbol.value..symbol.value + symbol.size.clamp(1, 4096) {
                allowed.insert(dump.translate(VirtAddr(va)).unwrap().0 / 4096);
            }
        }
        let first = plain.len() - 4096 * taken.plan.bitmap().count() as usize;
        let pages = taken.plan.bitmap().iter().collect::<Vec<_>>();
        let differ = differing(&plain, &changed);
        assert!(!differ.is_empty(), "{what}");
        for page in differ {
            let page = pages[page - first / 4096];
            let pa = taken.plan.dump_avail().addr_of(page).unwrap().0;
            assert!(allowed.contains(&(pa / 4096)), "{what}: page {pa:#x}");
        }

        // A debugger finds what was set.
        let kernel = Kernel::new(&dump, &elf);
        let found = kernel.processes().unwrap();
        let threads: Vec<_> = found.threads().collect();
        assert_eq!(found.problems, [""; 0], "{what}");
        let find = |tid: u32| threads.iter().find(|t| t.tid as u32 == tid).unwrap();
        let thread = find(expected.tid);
        assert_eq!(thread.context, Context::Crashed, "{what}");
        let found = kernel.registers(thread).unwrap();
        for (_, register, value) in SAVED {
            assert_eq!(found.get(register), Some(value), "{what}: {register}");
        }
        let stopped = find(on_cpu(1).tid);
        assert_eq!(stopped.context, Context::Stopped(1), "{what}");
        let found = kernel.registers(stopped).unwrap();
        assert_eq!(found.get("eip"), Some(other.rip), "{what}");

        // Whatever the format, the same dump.
        if let Some(with) = &with_registers {
            assert!(*with == changed, "{what}");
        }
        with_registers = Some(changed);
    }

    // The file that QEMU writes is of 64 bits, of a processor of 32.
    let mut head = [0; 20];
    let mut file = File::open(dir.path().join("elf-false")).unwrap();
    file.read_exact(&mut head).unwrap();
    assert_eq!((head[4], head[18], head[19]), (2, 3, 0), "{name}");
}

#[test]
fn i386_guests_are_dumped_with_their_registers_in_every_format() {
    if !has_qemu() {
        return;
    }
    for (name, text, pae) in GUESTS {
        every_format(name, text, pae);
    }
}
