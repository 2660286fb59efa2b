//! Members of processes and threads that are read with type information.

use std::sync::Arc;

use livecore_kernel::{Kernel, STRUCTURES, State, Types};
use livecore_minidump::{Dump, KernelElf, OpenOptions, VirtAddr};
use livecore_tests::elf_edit::Elf;
use livecore_tests::mkctf::Ctf;

use super::builder::{AMD64, KernelBuilder, NewThread};

/// Offsets of the members, which do not overlap those with exported offsets.
const PPTR: u64 = 0x68;
const P_STATE: u64 = 0x70;
const WMESG: u64 = 0xa0;
const LOCKNAME: u64 = 0xa8;
const STATE: u64 = 0xb0;
const INHIBITORS: u64 = 0xb4;
const KSTACK: u64 = 0xb8;
const KSTACK_PAGES: u64 = 0xc0;

/// The members in FreeBSD's `sys/sys/proc.h`, with 4-byte enumerations.
fn ctf() -> Vec<u8> {
    let mut ctf = Ctf::new(3, false);
    let int = ctf.integer("int", 4);
    let long = ctf.integer("unsigned long", 8);
    let char = ctf.integer("char", 1);
    let text = ctf.pointer(char);
    let p_state = ctf.enumeration("p_state", &[("PRS_NEW", 0), ("PRS_ZOMBIE", 2)]);
    let td_state = ctf.enumeration("td_state", &[("TDS_INACTIVE", 0), ("TDS_RUNNING", 4)]);
    ctf.forward("proc");
    let forward = ctf.forward("pstats");
    let pointer = ctf.pointer(forward);
    ctf.structure(
        "proc",
        0x80,
        &[
            ("p_pptr", pointer, 8 * PPTR),
            ("p_state", p_state, 8 * P_STATE),
        ],
    );
    ctf.structure(
        "thread",
        0x120,
        &[
            ("td_wmesg", text, 8 * WMESG),
            ("td_lockname", text, 8 * LOCKNAME),
            ("td_state", td_state, 8 * STATE),
            ("td_inhibitors", int, 8 * INHIBITORS),
            ("td_kstack", long, 8 * KSTACK),
            ("td_kstack_pages", int, 8 * KSTACK_PAGES),
        ],
    );
    ctf.bytes(false)
}

fn build(builder: &KernelBuilder) -> (Dump, KernelElf) {
    let (dump, elf) = builder.files();
    let elf = Elf::new(elf).add(".SUNW_ctf", &ctf(), false).bytes();
    (
        Dump::from_source(Arc::new(dump), &OpenOptions::default()).unwrap(),
        KernelElf::from_bytes(elf).unwrap(),
    )
}

/// `td_state` and `td_inhibitors` with the expected state; FreeBSD `sys/sys/proc.h`.
const STATES: [(u64, u64, State); 9] = [
    (0, 0, State::New),
    (1, 0x02, State::Sleeping),
    (1, 0x01, State::Suspended),
    (1, 0x08, State::Locked),
    (1, 0x10, State::InterruptWait),
    (1, 0x04, State::Swapped),
    // Sleeping and swapped out.
    (1, 0x06, State::Swapped),
    (2, 0, State::Runnable),
    (3, 0, State::Runnable),
];

#[test]
fn type_information_gives_parents_states_waits_locks_and_stacks() {
    let mut builder = KernelBuilder::new(AMD64, &["cpu_switch"]);
    let head = builder.address("allproc");
    let wanted: Vec<NewThread> = (0..STATES.len() as u32)
        .map(|i| NewThread {
            tid: 100_100 + i,
            name: "",
            cpu: None,
            pcb: 0,
        })
        .collect();
    let dead = NewThread {
        tid: 100_001,
        name: "",
        cpu: None,
        pcb: 0,
    };
    let processes = builder.list(
        head,
        &[(7, "sh", &wanted), (6, "true", &[dead]), (1, "init", &[])],
    );
    let init = processes[2].0;
    builder.word(processes[0].0 + PPTR, init);
    builder.word(processes[1].0 + PPTR, processes[0].0);
    builder.put(processes[1].0 + P_STATE, 4, 2);
    let texts = builder.allocate(64);
    builder.text(texts, "nanslp");
    builder.text(texts + 16, "vnode interlock");
    for (thread, (state, inhibitors, _)) in processes[0].1.iter().zip(STATES) {
        builder.put(thread + STATE, 4, state);
        builder.put(thread + INHIBITORS, 4, inhibitors);
        builder.word(thread + KSTACK, 0xffff_fe00_0000_0000);
        builder.put(thread + KSTACK_PAGES, 4, 4);
    }
    builder.word(processes[0].1[1] + WMESG, texts);
    builder.word(processes[0].1[3] + LOCKNAME, texts + 16);
    // Invalid pointers, and an impossible count.
    builder.word(processes[0].1[4] + WMESG, 0xdead_beef_0000);
    builder.word(processes[0].1[5] + WMESG, u64::MAX);
    builder.put(processes[0].1[6] + KSTACK_PAGES, 4, u64::from(u32::MAX));
    // The value in `thread0` on arm64 and riscv64.
    builder.put(processes[0].1[7] + KSTACK_PAGES, 4, 0);

    let (dump, elf) = build(&builder);
    let types = Types::read(&elf, &STRUCTURES);
    assert_eq!(types.problems, [""; 0]);
    let kernel = Kernel::of_dump(&dump, &elf).with_types(&types);
    let found = kernel.processes().unwrap();
    let processes: Vec<_> = found
        .list
        .iter()
        .map(|p| (p.pid, p.ppid, p.zombie))
        .collect();
    assert_eq!(
        processes,
        [(7, Some(1), false), (6, Some(7), true), (1, None, false)]
    );
    let threads = &found.list[0].threads;
    let states: Vec<State> = threads.iter().map(|t| kernel.state(t)).collect();
    assert_eq!(states, STATES.map(|(.., state)| state));
    let waits: Vec<_> = threads.iter().map(|t| t.wait.as_deref()).collect();
    let mut expected = [None; 9];
    expected[1] = Some("nanslp");
    expected[3] = Some("vnode interlock");
    assert_eq!(waits, expected);
    let stack = VirtAddr(0xffff_fe00_0000_0000)..VirtAddr(0xffff_fe00_0000_4000);
    assert_eq!(threads[0].kstack, Some(stack));
    assert_eq!(threads[6].kstack, None);
    assert_eq!(threads[7].kstack, None);
    assert_eq!(found.list[1].threads[0].state, State::Zombie);

    // Without type information.
    let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
    assert!(found.list.iter().all(|p| p.ppid.is_none()));
    assert!(found.list[0].threads.iter().all(|t| t.wait.is_none()));
}
