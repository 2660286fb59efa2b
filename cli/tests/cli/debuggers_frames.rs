//! Backtraces compared with those of gdb, frame by frame: call frame information of entry code, inlined
//! functions and tail calls.

use std::sync::OnceLock;

use serde_json::Value;

use crate::debuggers::{GDB, by_thread, gdb, gdb_functions, gdb_thread, have, remote};
use crate::harness::run;
use crate::served::{Dumped, Server, title};

/// The frame of a trap in gdb.
const SIGNAL: &str = "<signal";

/// gdb follows the call frame information in the kernel, which `livecore_synth` wrote. It has other names
/// for entry code, and continues in user mode.
#[test]
fn gdb_follows_call_frame_information_of_entry_code() {
    if !have(GDB) {
        return;
    }
    for name in ["cfi", "fred"] {
        let dumped = Dumped::new(name);
        let server = Server::of(&dumped);
        let printed = gdb(&[&remote(&server)], &["thread apply all -c bt"]);
        let stacks = by_thread(&printed, gdb_thread);
        let mut traps = 0;
        for (number, thread) in (1..).zip(dumped.threads()) {
            let expected: Vec<_> = thread
                .frames
                .iter()
                .map(|frame| match frame.function.as_str() {
                    "calltrap"
                    | "nmi_calltrap"
                    | "Xcpustop"
                    | "fred_events_handlers"
                    | "fork_trampoline"
                    | "fork_trampoline_kthread"
                    | "fast_syscall_common"
                    | "user_fred_syscall" => SIGNAL,
                    other => other,
                })
                .collect();
            let found = gdb_functions(&stacks[&number]);
            let title = title(thread);
            // A thread that has never run.
            if expected == [SIGNAL] {
                continue;
            }
            assert!(found.len() >= expected.len(), "{title}: {found:?}");
            assert_eq!(found[..expected.len()], expected[..], "{title}");
            let entries = expected.split_last().map_or(&[][..], |(_, rest)| rest);
            traps += entries.iter().filter(|name| **name == SIGNAL).count();
        }
        assert!(traps > 1, "{name}: {traps} traps");
    }
}

/// A machine with a compiled kernel whose functions are inlined and leave by tail calls.
fn inlined() -> &'static Dumped {
    static INLINED: OnceLock<Dumped> = OnceLock::new();
    INLINED.get_or_init(|| Dumped::new("inlined"))
}

/// The frames that `threads` prints, as function and how it was found, by thread id.
fn frames(dumped: &Dumped) -> Vec<(u64, Vec<(String, String)>)> {
    let [dump, kernel] = [&dumped.dump, &dumped.kernel].map(|path| path.to_str().unwrap());
    let answer = run(["threads", "-q", "--json", dump, "--kernel", kernel]).expect(0);
    let answer: Value = serde_json::from_slice(&answer.out).unwrap();
    let threads = answer["threads"].as_array().unwrap();
    let of = |thread: &Value| {
        let frames = thread["frames"].as_array().unwrap();
        let text = |frame: &Value, name: &str| frame[name].as_str().unwrap_or_default().to_owned();
        let frames = frames
            .iter()
            .map(|frame| (text(frame, "function"), text(frame, "by")))
            .collect();
        (thread["tid"].as_u64().unwrap(), frames)
    };
    threads.iter().map(of).collect()
}

#[test]
fn inlined_functions_and_tail_calls_are_those_of_gdb() {
    if !have(GDB) {
        return;
    }
    let dumped = inlined();
    let listed = frames(dumped);
    let server = Server::of(dumped);
    let printed = gdb(&[&remote(&server)], &["thread apply all -c bt"]);
    let stacks = by_thread(&printed, gdb_thread);
    let (mut inlined, mut tail_calls) = (0, 0);
    for (number, thread) in (1..).zip(dumped.threads()) {
        let (_, own) = listed
            .iter()
            .find(|(tid, _)| *tid == u64::from(thread.tid))
            .unwrap();
        // gdb does not know entry code without call frame information.
        let end = own.iter().position(|(_, by)| by == "trap");
        let own = &own[..end.unwrap_or(own.len())];
        let names: Vec<_> = own.iter().map(|(name, _)| name.clone()).collect();
        let found = gdb_functions(&stacks[&number]);
        let title = title(thread);
        let both = names.len().min(found.len());
        assert!(
            both > 0 && both + 1 >= names.len(),
            "{title}: {found:?}, {names:?}"
        );
        assert_eq!(found[..both], names[..both], "{title}");
        let count = |wanted: &str| own[..both].iter().filter(|(_, by)| by == wanted).count();
        inlined += count("inlined");
        tail_calls += count("tail-call");
    }
    assert!(inlined > 3 && tail_calls > 3, "{inlined}, {tail_calls}");
}

/// The machine's own frames are those on the stack.
#[test]
fn frames_on_the_stack_are_those_of_the_machine() {
    let dumped = inlined();
    let mut texts = Vec::new();
    for (tid, found) in frames(dumped) {
        let truth = dumped.machine.truth().threads.iter();
        let truth = truth.filter(|thread| u64::from(thread.tid) == tid);
        let expected: Vec<_> = truth.flat_map(|thread| &thread.frames).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|frame| frame.function.clone())
            .collect();
        let physical = found
            .iter()
            .filter(|(_, by)| by != "inlined" && by != "tail-call");
        let physical: Vec<_> = physical.map(|(name, _)| name.clone()).collect();
        assert_eq!(physical, expected, "{tid}");
        texts.push(found);
    }
    // Between the inlined function and the frame that contains it, nothing is left out.
    for (callee, caller, by) in [
        ("kern_dump", "kern_reboot", "inlined"),
        ("syscallenter", "amd64_syscall", "inlined"),
        ("sleepq_wait", "_sleep", "tail-call"),
    ] {
        let follows = |frames: &Vec<(String, String)>| {
            frames
                .windows(2)
                .any(|pair| pair[0] == (callee.into(), by.into()) && pair[1].0 == caller)
        };
        assert!(texts.iter().any(follows), "{callee} in {caller}");
    }
}
