//! QEMU dumps i386 guests of FreeBSD 10.4 and 12.1, with and without PAE, in every format. The
//! registers of the processors are readable by a debugger.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;

use livecore_kernel::{Context, Kernel};
use livecore_livedump::image::{self, Options, RawLayout};
use livecore_minidump::PhysAddr;
use livecore_minidump::{KernelMemory, VirtAddr};
use livecore_synth::Machine;

use super::qemu::{Qemu, compare, has_qemu};
use crate::dumps::{elf, open, payload, planned};

const GUESTS: [(&str, &str, bool); 3] = [
    ("12.1", machine_text!("i386-12.1"), false),
    ("12.1 PAE", machine_text!("i386-pae-12.1"), true),
    ("10.4 PAE", machine_text!("i386-pae-10.4"), true),
];

/// Numbers of registers in `i386-64bit.xml`, which QEMU uses for every guest.
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

/// Number, name in a pcb and value of the registers to set.
const SAVED: [(u32, &str, u64); 6] = [
    (EDI, "edi", 0xd1d1_0001),
    (ESI, "esi", 0x5151_0002),
    (EBP, "ebp", 0xc0de_0ff8),
    (ESP, "esp", 0xc0de_0fd0),
    (EBX, "ebx", 0xb0b0_0003),
    (EIP, "eip", 0x00c0_ffee),
];

/// Offsets of the pages that differ.
fn differing(a: &[u8], b: &[u8]) -> BTreeSet<usize> {
    assert_eq!(a.len(), b.len());
    let pages = a.chunks(4096).zip(b.chunks(4096)).enumerate();
    pages.filter(|(_, (a, b))| a != b).map(|(i, _)| i).collect()
}

fn every_format(name: &str, text: &str, pae: bool) {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::parse(text).unwrap();
    let elf = elf(machine.kernel());
    let (mut qemu, below) = Qemu::with_memory_of(&machine, dir.path());

    let truth = machine.truth();
    let on_cpu = |cpu: u32| truth.threads.iter().find(|t| t.cpu == Some(cpu)).unwrap();
    let expected = on_cpu(0);
    // Any pointer to the thread on the CPU can serve as `struct pcpu`: use the head of its process's
    // thread list. If another thread is first, the CPU is identified by its number.
    let offset = elf.symbol("proc_off_p_threads").unwrap().value;
    let offset = elf.bytes_at(VirtAddr(offset), 4).unwrap().bytes;
    let offset = u32::from_le_bytes(offset.try_into().unwrap());
    let pcpu = truth.processes.iter().find_map(|process| {
        let mut threads = truth.threads.iter();
        let first = threads.find(|thread| thread.pid == process.pid)?;
        (first.va == expected.va).then_some(process.va.0 + u64::from(offset))
    });
    let mut registers = SAVED.map(|(number, _, value)| (number, value)).to_vec();
    // The dump does not depend on CR3; this page is zeros.
    let root = 0x5000;
    let paging = [
        (CR4, if pae { 1 << 5 } else { 0 }),
        (CR3, root),
        (CR0, 1 << 31 | 0x11),
    ];
    registers.extend(paging);
    registers.push((FS_BASE, pcpu.unwrap_or(0)));
    qemu.set(0, &registers);
    // Processor 1 is in the kernel as well.
    let mut others = vec![(ESP, 0xc0de_1fd0), (EIP, 0x00c0_abba)];
    others.extend(paging);
    qemu.set(1, &others);

    let options = Options::default().layout(format!("pc:{below}").parse::<RawLayout>().unwrap());
    let raw = image::open(dir.path().join("ram"), &options).unwrap();
    let plain = payload(&planned(raw.memory, machine.kernel()).unwrap());
    let mut with_registers: Option<Vec<u8>> = None;
    for format in qemu.formats() {
        let what = format!("{name}, {format}");
        let image = qemu.dump(&format, false);
        compare(&machine, &image, &what);
        let mut taken = planned(image.memory.clone(), machine.kernel()).unwrap();
        assert!(payload(&taken) == plain, "{what}");

        let [cpu, other] = image.cpus[..] else {
            panic!("{what}: {} processors", image.cpus.len());
        };
        let (cpu, other) = (cpu.x86().unwrap(), other.x86().unwrap());
        assert!(cpu.is_32 && other.is_32, "{what}");
        let control = cpu.control.unwrap();
        assert!(control.paging(), "{what}");
        assert_eq!(control.root(), PhysAddr(root), "{what}");
        assert_eq!(control.cr4 >> 5 & 1 == 1, pae, "{what}");

        taken.put_cpus(&elf, &image.cpus, Some(0)).unwrap();
        let cpus = taken.provenance_record().provenance().cpus;
        assert_eq!(cpus.len(), 2, "{what}: {:?}", taken.notes);
        assert_eq!(cpus[0].tid, Some(expected.tid as i32), "{what}");
        let changed = payload(&taken);
        let dump = open(&changed);

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

        // The registers are those that were set.
        let kernel = Kernel::new(&dump, &elf);
        let found = kernel.processes().unwrap();
        let threads: Vec<_> = found.threads().collect();
        assert_eq!(found.problems, [""; 0], "{what}");
        let find = |tid: u32| threads.iter().find(|t| t.tid as u32 == tid).unwrap();
        let thread = find(expected.tid);
        let context = match truth.dumptid {
            Some(_) => Context::Crashed,
            None => Context::OnCpu(0),
        };
        assert_eq!(thread.context, context, "{what}");
        let found = kernel.registers(thread).unwrap();
        for (_, register, value) in SAVED {
            assert_eq!(found.get(register), Some(value), "{what}: {register}");
        }
        let stopped = find(on_cpu(1).tid);
        assert_eq!(stopped.context, Context::Stopped(1), "{what}");
        let found = kernel.registers(stopped).unwrap();
        assert_eq!(found.get("eip"), Some(other.rip), "{what}");

        // Every format gives the same dump.
        if let Some(with) = &with_registers {
            assert!(*with == changed, "{what}");
        }
        with_registers = Some(changed);
    }

    // QEMU writes an ELF file of class 64 with machine EM_386.
    let mut head = [0; 20];
    let mut file = File::open(dir.path().join("elf-false")).unwrap();
    file.read_exact(&mut head).unwrap();
    assert_eq!((head[4], head[18], head[19]), (2, 3, 0), "{name}");
}

#[test]
fn qemu_dumps_of_i386_guests_have_their_registers_in_every_format() {
    if !has_qemu() {
        return;
    }
    for (name, text, pae) in GUESTS {
        every_format(name, text, pae);
    }
}
