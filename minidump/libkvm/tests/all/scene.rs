//! A kernel with a value for every function of the library, and its dump, both by the independent
//! builders of `livecore-tests`. The offsets of its structures are those of no release: the library has
//! them from the kernel's type information.

use std::fmt::Write as _;

use livecore_tests::elf_edit::Elf;
use livecore_tests::mkctf::{Ctf, Id};
use livecore_tests::{mkdump, mkelf};

/// The address of the kernel's data.
pub(crate) const BASE: u64 = 0xffff_ffff_8020_0000;

/// Names and offsets of variables.
const SYMBOLS: &[(&str, u64, u64)] = &[
    ("hz", 0x10, 4),
    ("ticks", 0x14, 4),
    ("cpu_tick_frequency", 0x18, 8),
    ("mp_maxcpus", 0x20, 4),
    ("mp_ncpus", 0x24, 4),
    ("cpuid_to_pcpu", 0x40, 32),
    ("__pcpu", 0x60, 8),
    ("counter", 0x68, 8),
    ("dpcpu_off", 0x80, 32),
    ("vnet0", 0xa0, 8),
    ("averunnable", 0xb0, 24),
    ("swtailq", 0xd0, 16),
    ("nsw_cluster_max", 0xe0, 4),
    ("allproc", 0xe8, 8),
    ("pidhash", 0xf0, 8),
    ("pidhashtbl", 0xf8, 8),
    ("proc_off_p_pid", 0x200, 4),
    ("proc_off_p_comm", 0x204, 4),
    ("proc_off_p_list", 0x208, 4),
    ("proc_off_p_threads", 0x20c, 4),
    ("proc_off_p_hash", 0x210, 4),
    ("thread_off_td_tid", 0x214, 4),
    ("thread_off_td_name", 0x218, 4),
    ("thread_off_td_oncpu", 0x21c, 4),
    ("thread_off_td_pcb", 0x220, 4),
    ("thread_off_td_plist", 0x224, 4),
    ("pcb_size", 0x228, 4),
    ("constants", 0x1010, 8),
    ("__start_set_pcpu", 0x2000, 0),
    ("pcpu_entry_percpu", 0x2010, 8),
    ("__stop_set_pcpu", 0x2100, 0),
    ("__start_set_vnet", 0x2200, 0),
    ("vnet_entry_networks", 0x2220, 8),
    ("__stop_set_vnet", 0x2300, 0),
];

struct Memory(String);

impl Memory {
    fn put(&mut self, at: u64, kind: &str, values: &str) {
        let at = BASE + at;
        writeln!(self.0, "put va {at:#x} {kind} {values}").unwrap();
    }

    fn word(&mut self, at: u64, value: u64) {
        self.put(at, "u64", &format!("{value:#x}"));
    }

    /// A pointer to data at the offset `to`.
    fn pointer(&mut self, at: u64, to: u64) {
        self.word(at, BASE + to);
    }

    fn int(&mut self, at: u64, value: u32) {
        self.put(at, "u32", &value.to_string());
    }

    fn text(&mut self, at: u64, text: &str) {
        self.put(at, "text", &format!("\"{text}\""));
    }
}

/// The recipe of the dump, and statements after it.
pub(crate) fn recipe(more: &str) -> String {
    let mut memory = Memory(String::from(
        "minidump amd64 3
         kernbase 0xffffffff80000000
         kernend 0xffffffffc0000000
         avail 0x0 0x9f000
         avail 0x100000 0x300000
         map 0xffffffff80200000 0x100000 4K rw times 16
         page 0x3000 own
         map 0xffffffff80400000 0x200000 2M rx
         table 0xffffffff80200000 0x8000
",
    ));
    variables(&mut memory);
    devices(&mut memory);
    processes(&mut memory);
    memory.0 + more
}

fn variables(memory: &mut Memory) {
    memory.int(0x10, 1000);
    // `ticks` is negative for the first ten minutes.
    memory.int(0x14, 0xffff_ff00);
    memory.word(0x18, 1_000_000_000);
    memory.int(0x20, 4);
    memory.int(0x24, 2);
    for (cpu, page) in [0x3000, 0x4000].into_iter().enumerate() {
        let cpu = cpu as u64;
        memory.pointer(0x40 + 8 * cpu, page);
        memory.put(page, "u8", &format!("{:#x}", 0xa0 + cpu));
        for state in 0..5 {
            let ticks = (state + 1) * if cpu == 0 { 1 } else { 10 };
            memory.word(page + 0x100 + 8 * state, ticks);
        }
    }
    memory.pointer(0x60, 0x3000);
    memory.word(0x68, 0x800);
    memory.word(0x3800, 40);
    memory.word(0x4800, 2);
    memory.put(0x80, "u64", "0x100, 0x200, 0, 0x300");
    memory.pointer(0xa0, 0x5000);
    memory.int(0x5010, 0x5e4a_6f28);
    memory.word(0x5028, 0x7000);
    memory.put(0xb0, "u32", "1024, 2048, 4096");
    memory.word(0xc0, 2048);
}

fn devices(memory: &mut Memory) {
    memory.pointer(0xd0, 0x5100);
    memory.int(0xe0, 8);
    memory.put(0x5100, "u32", "1, 1032, 10");
    memory.word(0x5110, 0x57);
    memory.pointer(0x5118, 0x5300);
    memory.pointer(0x5308, 0x5400);
    memory.text(0x5410, "ada0p3");
    memory.pointer(0x5140, 0x5200);
    memory.put(0x5200, "u32", "4, 508, 5");
    memory.word(0x5210, u64::MAX);
}

/// Three processes: `init` with two threads, a new one, and a zombie.
fn processes(memory: &mut Memory) {
    let offsets = "0x10, 0x20, 0, 0x50, 0x38, 0x10, 0x20, 0x38, 0x40, 0x48, 0x100";
    memory.put(0x200, "u32", offsets);
    memory.pointer(0xe8, 0x6000);
    memory.word(0xf0, 1);
    memory.pointer(0xf8, 0x5800);
    memory.pointer(0x5808, 0x6800);
    // `proc` of init
    memory.pointer(0x6000, 0x6400);
    memory.int(0x6010, 1);
    memory.text(0x6020, "abcdefghijklmnopqrs");
    memory.pointer(0x6050, 0x7000);
    memory.put(0x6100, "u32", "1, 0x10000002");
    for (at, to) in [
        (0x6108, 0x8000),
        (0x6110, 0x8100),
        (0x6118, 0x8400),
        (0x6120, 0x8500),
        (0x6128, 0x8600),
        (0x6130, 0x6400),
    ] {
        memory.pointer(at, to);
    }
    memory.put(0x613c, "u32", "0x103, 9");
    memory.put(0x6144, "u16", "3");
    memory.put(0x6148, "u32", "2, 20000");
    memory.put(0x6150, "u8", "0xfb");
    memory.word(0x6158, 2_500_000_000);
    memory.int(0x6160, 0x1);
    // `proc` in creation, and the zombie
    memory.int(0x6410, 77);
    memory.int(0x6810, 66);
    memory.text(0x6820, "gone");
    memory.int(0x6900, 2);
    memory.pointer(0x6930, 0x6000);
    memory.put(0x693c, "u32", "7, 0");
    // threads
    memory.int(0x7010, 100_001);
    memory.text(0x7020, "sixteencharactersX");
    memory.put(0x7038, "u32", "0xffffffff");
    memory.pointer(0x7048, 0x7400);
    memory.put(0x7060, "u32", "1, 0xa");
    memory.pointer(0x7068, 0x8700);
    memory.text(0x8700, "select");
    memory.pointer(0x7070, 0x8700);
    memory.pointer(0x7078, 0x8710);
    memory.text(0x8710, "longlockname");
    memory.int(0x7080, 3);
    memory.put(0x7090, "u8", "84, 120");
    memory.int(0x7094, 0x4);
    memory.int(0x70a8, 0x8);
    memory.int(0x7410, 100_002);
    memory.int(0x7438, 1);
    memory.int(0x7460, 4);
    memory.int(0x7480, 1);
    // `ucred`, `prison`
    memory.put(0x8000, "u32", "1001, 1002, 1003, 20, 21, 22, 1, 2");
    memory.pointer(0x8020, 0x8040);
    memory.int(0x8040, 5);
    memory.pointer(0x8028, 0x8050);
    memory.put(0x8050, "u32", "30, 31");
    // `pgrp`, `session`, `tty`
    memory.int(0x8100, 11);
    memory.pointer(0x8108, 0x8200);
    memory.int(0x8200, 12);
    memory.pointer(0x8208, 0x6000);
    memory.pointer(0x8210, 0x8200);
    memory.pointer(0x8218, 0x8300);
    memory.text(0x8220, "root");
    memory.pointer(0x8300, 0x8300);
    memory.pointer(0x8308, 0x8180);
    memory.int(0x8180, 13);
    memory.pointer(0x8310, 0x8280);
    memory.int(0x8280, 14);
    // `vmspace`, `sysentvec`, `sigacts`
    memory.put(0x8408, "u64", "0x500000, 0, 7, 8, 9, 6");
    memory.pointer(0x8500, 0x8510);
    memory.text(0x8510, "FreeBSD ELF64");
    memory.put(0x8600, "u32", "2, 0, 0, 0, 0, 0, 0, 0x80");
}

/// The type information, with members as (name, type, offset in bytes).
struct Types {
    ctf: Ctf,
}

impl Types {
    fn structure(&mut self, name: &str, size: u64, members: &[(&str, Id, u64)]) -> Id {
        let bits: Vec<_> = members
            .iter()
            .map(|(n, id, at)| (*n, *id, 8 * at))
            .collect();
        self.ctf.structure(name, size, &bits)
    }
}

fn types() -> Vec<u8> {
    let mut all = Types {
        ctf: Ctf::new(3, false),
    };
    let int = all.ctf.integer("int", 4);
    let short = all.ctf.integer("short", 2);
    let long = all.ctf.integer("long", 8);
    let char = all.ctf.integer("char", 1);
    let p = all.ctf.pointer(char);
    let state = all.ctf.enumeration("state", &[("NONE", 0), ("ONE", 1)]);
    let words = all.ctf.array(int, 4);
    let set = all.structure("__sigset", 16, &[("__bits", words, 0)]);
    let queue = all.structure("sigqueue", 16, &[("sq_signals", set, 0)]);
    let usage = all.structure("rusage_ext", 8, &[("rux_runtime", long, 0)]);
    let times = all.ctf.array(long, 5);
    all.structure("pcpu", 4096, &[("pc_cp_time", times, 0x100)]);
    all.structure("swdevt", 96, &[("sw_vp", p, 24)]);
    all.structure("vnode", 64, &[("v_rdev", p, 8)]);
    let name = all.ctf.array(char, 64);
    all.structure("cdev", 128, &[("si_name", name, 16)]);
    let members = [
        ("p_state", state, 0x100),
        ("p_flag", int, 0x104),
        ("p_ucred", p, 0x108),
        ("p_pgrp", p, 0x110),
        ("p_vmspace", p, 0x118),
        ("p_sysent", p, 0x120),
        ("p_sigacts", p, 0x128),
        ("p_pptr", p, 0x130),
        ("p_oppid", int, 0x138),
        ("p_xexit", int, 0x13c),
        ("p_xsig", int, 0x140),
        ("p_acflag", short, 0x144),
        ("p_numthreads", int, 0x148),
        ("p_swtick", int, 0x14c),
        ("p_nice", char, 0x150),
        ("p_rux", usage, 0x158),
        ("p_sigqueue", queue, 0x160),
    ];
    all.structure("proc", 0x200, &members);
    let members = [
        ("td_state", state, 0x60),
        ("td_inhibitors", int, 0x64),
        ("td_wmesg", p, 0x68),
        ("td_blocked", p, 0x70),
        ("td_lockname", p, 0x78),
        ("td_lastcpu", int, 0x80),
        ("td_priority", char, 0x90),
        ("td_base_pri", char, 0x91),
        ("td_sigmask", set, 0x94),
        ("td_sigqueue", queue, 0xa8),
    ];
    all.structure("thread", 0x200, &members);
    let members = [
        ("cr_uid", int, 0),
        ("cr_ruid", int, 4),
        ("cr_svuid", int, 8),
        ("cr_gid", int, 12),
        ("cr_rgid", int, 16),
        ("cr_svgid", int, 20),
        ("cr_flags", int, 24),
        ("cr_ngroups", int, 28),
        ("cr_prison", p, 32),
        ("cr_groups", p, 40),
    ];
    all.structure("ucred", 48, &members);
    all.structure("prison", 16, &[("pr_id", int, 0)]);
    all.structure("pgrp", 16, &[("pg_id", int, 0), ("pg_session", p, 8)]);
    let login = all.ctf.array(char, 40);
    let members = [
        ("s_sid", int, 0),
        ("s_leader", p, 8),
        ("s_ttyvp", p, 16),
        ("s_ttyp", p, 24),
        ("s_login", login, 32),
    ];
    all.structure("session", 72, &members);
    let members = [("t_dev", p, 0), ("t_pgrp", p, 8), ("t_session", p, 16)];
    all.structure("tty", 24, &members);
    let map = all.structure("vm_map", 16, &[("size", long, 8)]);
    let stats = all.structure("pmap_statistics", 8, &[("resident_count", long, 0)]);
    let pmap = all.structure("pmap", 8, &[("pm_stats", stats, 0)]);
    let members = [
        ("vm_map", map, 0),
        ("vm_swrss", long, 16),
        ("vm_tsize", long, 24),
        ("vm_dsize", long, 32),
        ("vm_ssize", long, 40),
        ("vm_pmap", pmap, 48),
    ];
    all.structure("vmspace", 64, &members);
    all.structure("sysentvec", 8, &[("sv_name", p, 0)]);
    let members = [("ps_sigignore", set, 0), ("ps_sigcatch", set, 16)];
    all.structure("sigacts", 32, &members);
    all.ctf.bytes(false)
}

/// The kernel file. Without `typed`, it has no type information.
pub(crate) fn kernel(typed: bool) -> Vec<u8> {
    let mut text = format!(
        "elf amd64
         section .data {BASE:#x} zero len 0x1000
         bss .bss {:#x} 0xf000
         section .text 0xffffffff80400000 hex c3
         symbol main 0xffffffff80400000 size 1 func
         symbol limit 0x1234 abs
         symbol private {:#x} size 4 local
",
        BASE + 0x1000,
        BASE + 0x300,
    );
    for (name, at, size) in SYMBOLS {
        writeln!(text, "symbol {name} {:#x} size {size}", BASE + at).unwrap();
    }
    let elf = mkelf::build(&text).unwrap();
    match typed {
        true => Elf::new(elf).add(".SUNW_ctf", &types(), false).bytes(),
        false => elf,
    }
}

/// The dump.
pub(crate) fn dump(more: &str) -> mkdump::Built {
    mkdump::build_all(&recipe(more)).unwrap()
}
