//! The call chains that the machine's stacks run through.

use super::description::{Doing, Thread};

/// A call chain, innermost function first. After a trap entry the interrupted function follows.
pub(crate) type Chain = Vec<&'static str>;

/// Functions that trap entries are: behind a return address in one of them lies a trap frame.
pub(crate) const TRAP_ENTRIES: [&str; 3] = ["calltrap", "nmi_calltrap", "Xcpustop"];

/// Functions written in assembly: their symbols have no size.
pub(crate) const ASSEMBLY: [&str; 8] = [
    "alltraps",
    "calltrap",
    "nmi_calltrap",
    "Xcpustop",
    "Xtimerint",
    "fork_trampoline",
    "fast_syscall_common",
    "btext",
];

/// What every chain of a user process's thread ends in.
const SYSCALL: [&str; 2] = ["amd64_syscall", "fast_syscall_common"];
/// What every chain of a kernel thread ends in.
const KTHREAD: [&str; 2] = ["fork_exit", "fork_trampoline"];
/// What a thread that was switched away from starts with.
const SWITCH: [&str; 2] = ["sched_switch", "mi_switch"];

/// Wait messages of user processes, and how their threads got there.
const USER_WAITS: [(&str, &[&str]); 6] = [
    (
        "select",
        &[
            "sleepq_catch_signals",
            "sleepq_wait_sig",
            "_cv_wait_sig",
            "seltdwait",
            "kern_select",
            "sys_select",
        ],
    ),
    (
        "nanslp",
        &[
            "sleepq_timedwait_sig",
            "_sleep",
            "kern_clock_nanosleep",
            "sys_nanosleep",
        ],
    ),
    (
        "wait",
        &[
            "sleepq_catch_signals",
            "sleepq_wait_sig",
            "_sleep",
            "kern_wait6",
            "sys_wait4",
        ],
    ),
    (
        "kqread",
        &[
            "sleepq_catch_signals",
            "sleepq_wait_sig",
            "_sleep",
            "kqueue_kevent",
            "kern_kevent",
            "sys_kevent",
        ],
    ),
    (
        "ttyin",
        &[
            "sleepq_catch_signals",
            "sleepq_wait_sig",
            "_cv_wait_sig",
            "tty_wait",
            "ttydisc_read",
            "devfs_read_f",
            "sys_read",
        ],
    ),
    (
        "uwait",
        &[
            "sleepq_catch_signals",
            "sleepq_wait_sig",
            "_sleep",
            "umtxq_sleep",
            "do_wait",
            "sys__umtx_op",
        ],
    ),
];

/// Wait messages of kernel threads.
const KERNEL_WAITS: [(&str, &[&str]); 6] = [
    ("-", &["sleepq_wait", "_sleep", "taskqueue_thread_loop"]),
    ("swapin", &["sleepq_wait", "_sleep", "swapper"]),
    (
        "psleep",
        &["sleepq_timedwait", "_sleep", "vm_pageout_worker"],
    ),
    (
        "syncer",
        &["sleepq_timedwait", "_cv_timedwait_sbt", "sched_sync"],
    ),
    ("vlruwt", &["sleepq_timedwait", "_sleep", "vnlru_proc"]),
    ("intr", &["ithread_loop"]),
];

/// The rest of a page fault in the kernel, from the fault's handler on.
const FAULT: [&str; 7] = [
    "calltrap",
    "copyin_nosmap_erms",
    "uiomove_faultflag",
    "sysctl_old_user",
    "sysctl_handle_string",
    "userland_sysctl",
    "sys___sysctl",
];

fn join(parts: &[&[&'static str]]) -> Chain {
    parts.concat()
}

/// The chain of a thread. `dumping` says that it is the one that panicked, `stopped` that its CPU
/// was stopped. `None`: it runs, and nobody knows where.
pub(crate) fn of(thread: &Thread, user: bool, dumping: bool, stopped: bool) -> Option<Chain> {
    let tail: &[&'static str] = if user { &SYSCALL } else { &KTHREAD };
    let working: &[&'static str] = if user {
        &[
            "sysctl_debug_panic",
            "sysctl_root",
            "userland_sysctl",
            "sys___sysctl",
        ]
    } else {
        &["acpi_cpu_c1", "acpi_cpu_idle", "cpu_idle", "sched_idletd"]
    };
    Some(match thread.doing {
        Doing::Fresh => vec!["fork_trampoline"],
        Doing::Running if dumping && thread.fault => join(&[
            &[
                "doadump",
                "kern_reboot",
                "vpanic",
                "panic",
                "trap_fatal",
                "trap_pfault",
                "trap",
            ],
            &FAULT,
            tail,
        ]),
        Doing::Running if dumping => join(&[
            &["doadump", "kern_reboot", "vpanic", "panic"],
            working,
            tail,
        ]),
        Doing::Running if stopped && thread.cpu.unwrap_or(0) % 2 == 1 => join(&[
            &["cpustop_handler", "ipi_nmi_handler", "trap", "nmi_calltrap"],
            working,
            tail,
        ]),
        Doing::Running if stopped => join(&[&["cpustop_handler", "Xcpustop"], working, tail]),
        Doing::Running => return None,
        Doing::Runnable if user => join(&[&SWITCH, &["kern_yield", "sys_sched_yield"], tail]),
        Doing::Runnable => join(&[&SWITCH, &["kern_yield", "vm_pagezero"], tail]),
        Doing::Stopped => join(&[&SWITCH, &["thread_suspend_switch", "issignal", "ast"], tail]),
        Doing::Sleeping if thread.fault => join(&[
            &SWITCH,
            &[
                "sleepq_wait",
                "_sleep",
                "vm_fault_busy_sleep",
                "vm_fault",
                "trap_pfault",
                "trap",
            ],
            &FAULT,
            tail,
        ]),
        Doing::Sleeping => {
            let waits: &[(&str, &[&'static str])] = if user { &USER_WAITS } else { &KERNEL_WAITS };
            let wanted = thread.wait.as_deref().unwrap_or("-");
            let (_, middle) = waits
                .iter()
                .find(|(wait, _)| *wait == wanted)
                .unwrap_or(&waits[0]);
            join(&[&SWITCH, middle, tail])
        }
    })
}

/// Every chain there is: what a kernel must have functions and calls for.
pub(crate) fn all() -> Vec<Chain> {
    let mut chains = vec![
        vec!["cpu_switch", "sched_switch"],
        vec!["savectx", "cpustop_handler"],
        vec!["dump_savectx", "doadump"],
        vec!["Xtimerint"],
        vec!["alltraps"],
        vec!["btext"],
    ];
    for user in [true, false] {
        for doing in [
            Doing::Fresh,
            Doing::Running,
            Doing::Runnable,
            Doing::Stopped,
            Doing::Sleeping,
        ] {
            for fault in [true, false] {
                for (dumping, cpu) in [(true, 0), (false, 0), (false, 1)] {
                    let thread = Thread {
                        doing,
                        fault,
                        cpu: Some(cpu),
                        ..Thread::default()
                    };
                    chains.extend(of(&thread, user, dumping, true));
                }
            }
        }
        for (wait, _) in USER_WAITS.iter().chain(&KERNEL_WAITS) {
            let thread = Thread {
                wait: Some((*wait).into()),
                ..Thread::default()
            };
            chains.extend(of(&thread, user, false, false));
        }
    }
    chains
}

/// Functions in the order they are first seen, each with those it calls.
pub(crate) fn functions() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut functions: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    let mut index = std::collections::BTreeMap::new();
    for chain in all() {
        for (i, &name) in chain.iter().enumerate() {
            let at = *index.entry(name).or_insert_with(|| {
                functions.push((name, Vec::new()));
                functions.len() - 1
            });
            // The function before it was called by it, unless a trap lies between.
            if let Some(&inner) = i.checked_sub(1).and_then(|i| chain.get(i))
                && !TRAP_ENTRIES.contains(&inner)
                && !functions[at].1.contains(&inner)
            {
                functions[at].1.push(inner);
            }
        }
    }
    functions
}

/// The function that saves the context of the innermost function of a chain.
pub(crate) fn saver(innermost: &str) -> &'static str {
    match innermost {
        "cpustop_handler" => "savectx",
        "doadump" => "dump_savectx",
        _ => "cpu_switch",
    }
}
