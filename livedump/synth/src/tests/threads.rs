//! Processes and stacks, read as a debugger reads them: by symbols and exported offsets, from
//! memory, through a walk of the tables.

use super::{Reader, machine, text_of};
use crate::{Context, Doing, Machine, ThreadTruth, Why};

const MACHINES: [&str; 5] = ["tiny", "running", "relocated", "old-12.1", "old-10.4"];

/// `td_oncpu`, NOCPU with all bits set: an `int`, or in 10.4 a byte.
fn oncpu(reader: &Reader<'_>, at: u64) -> u32 {
    if reader.u32(reader.symbol("osreldate")) >= 1_100_000 {
        return reader.u32(at);
    }
    let mut byte = [0];
    reader.read(at, &mut byte);
    match byte[0] {
        255 => u32::MAX,
        cpu => cpu.into(),
    }
}

/// The threads of a list of processes, in list order: address, pid, comm, tid, name, oncpu, pcb.
fn list(reader: &Reader<'_>, head: &str) -> Vec<(u64, u32, String, u32, String, u32, u64)> {
    let off = |name: &str| u64::from(reader.u32(reader.symbol(name)));
    let mut threads = Vec::new();
    let mut proc_ = reader.u64(reader.symbol(head));
    while proc_ != 0 {
        let pid = reader.u32(proc_ + off("proc_off_p_pid"));
        let comm = reader.string(proc_ + off("proc_off_p_comm"), 20);
        let mut thread = reader.u64(proc_ + off("proc_off_p_threads"));
        assert_ne!(thread, 0, "{comm} has no thread");
        while thread != 0 {
            threads.push((
                thread,
                pid,
                comm.clone(),
                reader.u32(thread + off("thread_off_td_tid")),
                reader.string(thread + off("thread_off_td_name"), 20),
                oncpu(reader, thread + off("thread_off_td_oncpu")),
                reader.u64(thread + off("thread_off_td_pcb")),
            ));
            thread = reader.u64(thread + off("thread_off_td_plist"));
        }
        proc_ = reader.u64(proc_ + off("proc_off_p_list"));
    }
    threads
}

#[test]
fn the_lists_of_processes_hold_the_threads_in_order() {
    for name in MACHINES {
        let machine = machine(&text_of(name));
        let reader = Reader::new(&machine);
        let truth = machine.truth();
        let tuple = |t: &ThreadTruth| {
            (
                t.va.0,
                t.pid,
                t.comm.clone(),
                t.tid,
                t.name.clone(),
                t.cpu.unwrap_or(u32::MAX),
                t.pcb.0,
            )
        };
        let (dead, alive): (Vec<_>, Vec<_>) = truth.threads.iter().partition(|t| t.zombie);
        assert_eq!(
            list(&reader, "allproc"),
            alive.into_iter().map(tuple).collect::<Vec<_>>(),
            "{name}"
        );
        assert!(!dead.is_empty());
        if truth.symbol("zombproc").is_some() {
            assert_eq!(
                list(&reader, "zombproc"),
                dead.into_iter().map(tuple).collect::<Vec<_>>()
            );
        } else {
            // Every process hangs in its chain of pidhashtbl.
            let table = reader.u64(reader.symbol("pidhashtbl"));
            let mask = reader.u64(reader.symbol("pidhash"));
            let next = u64::from(reader.u32(reader.symbol("proc_off_p_hash")));
            let pid = u64::from(reader.u32(reader.symbol("proc_off_p_pid")));
            let mut pids = Vec::new();
            for slot in 0..=mask {
                let mut proc_ = reader.u64(table + slot * 8);
                while proc_ != 0 {
                    let pid = reader.u32(proc_ + pid);
                    assert_eq!(u64::from(pid) & mask, slot);
                    pids.push(pid);
                    proc_ = reader.u64(proc_ + next);
                }
            }
            pids.sort_unstable();
            let mut expected: Vec<u32> = truth.threads.iter().map(|t| t.pid).collect();
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(pids, expected, "{name}");
        }
    }
}

/// The pcb that a debugger takes the thread's registers from.
fn context(machine: &Machine, reader: &Reader<'_>, thread: &ThreadTruth) -> Option<u64> {
    let dumptid = reader.u32(reader.symbol("dumptid"));
    if thread.tid == dumptid {
        return Some(reader.symbol("dumppcb"));
    }
    let Some(cpu) = thread.cpu else {
        return Some(thread.pcb.0);
    };
    let bits = reader.u64(reader.symbol("stopped_cpus"));
    if bits >> cpu & 1 == 0 {
        return None;
    }
    let symbol = machine.truth().symbols["stoppcbs"];
    let base = if symbol.size == 8 {
        reader.u64(symbol.value)
    } else {
        symbol.value
    };
    Some(base + u64::from(cpu * reader.u32(reader.symbol("pcb_size"))))
}

/// A frame-pointer walk by the rules of ddb: (pc, frame pointer) of each frame.
fn backtrace(machine: &Machine, reader: &Reader<'_>, pcb: u64) -> Vec<(u64, u64)> {
    let (mut pc, mut fp) = (reader.u64(pcb + 56), reader.u64(pcb + 32));
    let function = |pc: u64| {
        machine
            .truth()
            .symbols
            .iter()
            .filter(|(_, s)| !s.absolute && s.value <= pc && pc < reader.symbol("_etext"))
            .max_by_key(|(_, s)| s.value)
            .map_or("", |(name, _)| name.as_str())
    };
    let mut frames = vec![(pc, fp)];
    let ends = ["fork_trampoline", "fast_syscall_common", "Xfast_syscall"];
    while !ends.contains(&function(pc)) {
        let at = fp;
        pc = reader.u64(at + 8);
        fp = reader.u64(at);
        frames.push((pc, fp));
        if ["calltrap", "nmi_calltrap", "Xcpustop"].contains(&function(pc)) {
            let trap = at + 16;
            assert_eq!(reader.u64(trap + 160) & 3, 0, "from the kernel");
            pc = reader.u64(trap + 152);
            fp = reader.u64(trap + 64);
            frames.push((pc, fp));
        }
        assert!(frames.len() < 64);
    }
    frames
}

#[test]
fn frame_pointers_lead_through_every_stack() {
    let mut traps = 0;
    for name in MACHINES {
        let machine = machine(&text_of(name));
        let reader = Reader::new(&machine);
        for thread in &machine.truth().threads {
            let what = format!("{name}: {} {}", thread.comm, thread.name);
            let Some(pcb) = context(&machine, &reader, thread) else {
                assert!(matches!(thread.context, Context::Running(_)), "{what}");
                assert!(thread.frames.is_empty());
                continue;
            };
            for (register, at) in [
                ("r15", 0),
                ("rbp", 32),
                ("rsp", 40),
                ("rbx", 48),
                ("rip", 56),
            ] {
                let expected = thread.registers.iter().find(|(name, _)| *name == register);
                assert_eq!(
                    expected.map(|t| t.1),
                    Some(reader.u64(pcb + at)),
                    "{what}: {register}"
                );
            }
            let expected: Vec<(u64, u64)> =
                thread.frames.iter().map(|f| (f.pc.0, f.fp.0)).collect();
            assert_eq!(backtrace(&machine, &reader, pcb), expected, "{what}");
            traps += thread.frames.iter().filter(|f| f.trap.is_some()).count();
            // The slot at the saved stack pointer still contains the return address, unless
            // the thread has never run, or went on.
            let (sp, pc) = (reader.u64(pcb + 40), reader.u64(pcb + 56));
            let kept = thread.doing != Doing::Fresh && thread.context != Context::Dump;
            assert_eq!(reader.u64(sp) == pc, kept, "{what}");
        }
    }
    assert!(traps >= 6, "{traps}");
}

#[test]
fn a_panicked_machine_has_a_page_fault_in_its_dumping_thread() {
    let machine = machine(&text_of("tiny"));
    let truth = machine.truth();
    let thread = truth
        .threads
        .iter()
        .find(|t| Some(t.tid) == truth.dumptid)
        .expect("a dumping thread");
    let names: Vec<&str> = thread.frames.iter().map(|f| f.function.as_str()).collect();
    assert_eq!(names[..4], ["doadump", "kern_reboot", "vpanic", "panic"]);
    let trap = names.iter().position(|n| *n == "calltrap").expect("a trap");
    let frame = thread.frames[trap].trap.expect("a trap frame");
    let reader = Reader::new(&machine);
    assert_eq!(reader.u32(frame.0 + 120), 12, "T_PAGEFLT");
    assert_eq!(reader.u64(frame.0 + 152), thread.frames[trap + 1].pc.0);
    let panicstr = reader.u64(reader.symbol("panicstr"));
    assert_eq!(reader.string(panicstr, 256), "page fault");
}

#[test]
fn a_running_machine_has_no_dumping_state() {
    let machine = machine(&text_of("running"));
    let reader = Reader::new(&machine);
    for (name, size) in [
        ("dumptid", 4),
        ("dumppcb", 320),
        ("panicstr", 8),
        ("stopped_cpus", 128),
    ] {
        let mut bytes = vec![0xee; size];
        reader.read(reader.symbol(name), &mut bytes);
        assert!(bytes.iter().all(|&b| b == 0), "{name}");
    }
    assert_eq!(machine.truth().dumptid, None);
    assert!(machine.truth().dumped.iter().any(|run| run.why == Why::Bit));
}

#[test]
fn call_chains_return_behind_call_instructions() {
    let machine = machine(&text_of("tiny"));
    let reader = Reader::new(&machine);
    let mut calls = 0;
    for thread in &machine.truth().threads {
        // The callee of each return address but the innermost is the frame inside of it.
        for pair in thread.frames.windows(2) {
            let (inner, outer) = (&pair[0], &pair[1]);
            if inner.trap.is_some() {
                continue;
            }
            let mut insn = [0; 5];
            reader.read(outer.pc.0 - 5, &mut insn);
            assert_eq!(insn[0], 0xe8, "{} -> {}", outer.function, inner.function);
            let operand = i32::from_le_bytes([insn[1], insn[2], insn[3], insn[4]]);
            let target = outer.pc.0.wrapping_add_signed(i64::from(operand));
            assert_eq!(target, machine.truth().symbols[&inner.function].value);
            calls += 1;
        }
    }
    assert!(calls > 100, "{calls}");
}

#[test]
fn a_cpu_that_runs_has_a_stack_though_no_context_is_saved() {
    let machine = machine(&text_of("running"));
    let reader = Reader::new(&machine);
    let truth = machine.truth();
    assert_eq!(truth.cpus.len(), 3);
    for cpu in &truth.cpus {
        let thread = truth.threads.iter().find(|t| t.tid == cpu.tid);
        let thread = thread.expect("a thread");
        assert_eq!(thread.context, Context::Running(cpu.id));
        // `td_kstack` of 15.0.
        let kstack = reader.u64(thread.va.0 + 0x4f0);
        assert!((kstack..kstack + 4 * 4096).contains(&cpu.sp.0));
        assert!(cpu.sp <= cpu.fp);
        // From the CPU's registers by hand: a saved frame pointer, a return address.
        let mut fp = cpu.fp;
        for frame in &cpu.frames[1..] {
            assert_eq!(
                (reader.u64(fp.0 + 8), reader.u64(fp.0)),
                (frame.pc.0, frame.fp.0)
            );
            fp = frame.fp;
        }
        assert_eq!(cpu.frames[0].pc, cpu.pc);
        let names: Vec<&str> = cpu.frames.iter().map(|f| f.function.as_str()).collect();
        let idle = ["acpi_cpu_c1", "acpi_cpu_idle", "cpu_idle", "sched_idletd"];
        assert_eq!(names.starts_with(&idle), cpu.id != 0, "{names:?}");
    }
}

#[test]
fn an_entry_with_a_count_is_as_many_processes() {
    let of = |processes: &str| {
        machine(&format!(
            "seed = 3\n[memory]\nsize = \"32 MiB\"\n{processes}"
        ))
    };
    let entry = |pid: u32, more: &str| {
        format!(
            "[[process]]\nname = \"fleet\"\npid = {pid}\n{more}thread = [{{}}, {{wait = \"uwait\"}}]\n"
        )
    };
    let counted = of(&entry(40, "count = 3\n"));
    let written = of(&[40, 41, 42].map(|pid| entry(pid, "")).concat());
    let pids: Vec<u32> = counted.truth().threads.iter().map(|t| t.pid).collect();
    assert_eq!(pids, [42, 42, 41, 41, 40, 40]);
    assert_eq!(counted.truth().threads, written.truth().threads);
}
