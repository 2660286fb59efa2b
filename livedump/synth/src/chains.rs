//! The call chains on the machine's stacks.

use super::description::{Doing, LockClass, Thread};

/// A call chain, innermost function first. After a trap entry the interrupted function follows.
pub(crate) type Chain = Vec<&'static str>;

/// The functions that differ from architecture to architecture.
#[derive(Debug)]
pub(crate) struct Names {
    /// Trap entries: a return address in one of them is followed by a trap frame.
    pub(crate) entries: &'static [&'static str],
    /// Functions written in assembly: their symbols have no size.
    pub(crate) assembly: &'static [&'static str],
    /// The one of them that is a local symbol.
    pub(crate) local: &'static str,
    /// The first function of the kernel.
    pub(crate) first: &'static str,
    /// The end of every chain of a kernel thread.
    pub(crate) kthread: &'static [&'static str],
    /// The functions with call frame information.
    pub(crate) cfi: &'static [(&'static str, State)],
    /// The end of every chain of a user process's thread.
    pub(crate) syscall: &'static [&'static str],
    /// A page fault in the kernel, from its handler to the trap entry.
    pub(crate) fault: &'static [&'static str],
    /// The calls from there to the panic.
    pub(crate) fatal: &'static [&'static str],
    /// How CPUs are stopped: those with an even number and those with an odd number.
    pub(crate) stop: [&'static [&'static str]; 2],
    /// The functions of an idle CPU.
    pub(crate) idle: &'static [&'static str],
    /// Other functions that a kernel has.
    pub(crate) others: &'static [&'static str],
}

/// What the call frame information of a function describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A trap frame at the stack pointer.
    TrapFrame,
    /// The outermost frame.
    Outermost,
}

/// FreeBSD `sys/amd64/amd64/{exception.S,trap.c}`.
pub(crate) static AMD64: Names = Names {
    entries: &["calltrap", "nmi_calltrap", "Xcpustop"],
    assembly: &[
        "alltraps",
        "calltrap",
        "nmi_calltrap",
        "Xcpustop",
        "Xtimerint",
        "fork_trampoline",
        "fast_syscall_common",
        "btext",
    ],
    local: "fast_syscall_common",
    first: "btext",
    kthread: &KTHREAD,
    cfi: &[],
    syscall: &["amd64_syscall", "fast_syscall_common"],
    fault: &["trap_pfault", "trap", "calltrap"],
    fatal: &["trap_fatal"],
    stop: [
        &["cpustop_handler", "Xcpustop"],
        &["cpustop_handler", "ipi_nmi_handler", "trap", "nmi_calltrap"],
    ],
    idle: &["acpi_cpu_c1", "acpi_cpu_idle", "cpu_idle", "sched_idletd"],
    others: &["Xtimerint", "alltraps", "btext"],
};

/// The same in 10.4, which has a single entry for system calls.
pub(crate) static AMD64_10: Names = Names {
    assembly: &[
        "alltraps",
        "calltrap",
        "nmi_calltrap",
        "Xcpustop",
        "Xtimerint",
        "fork_trampoline",
        "Xfast_syscall",
        "btext",
    ],
    local: "alltraps",
    syscall: &["amd64_syscall", "Xfast_syscall"],
    ..AMD64
};

/// The same in 15.2, whose entry code has call frame information.
pub(crate) static AMD64_15_2: Names = Names {
    assembly: &[
        "alltraps",
        "calltrap",
        "nmi_calltrap",
        "Xcpustop",
        "Xtimerint",
        "fork_trampoline",
        "fork_trampoline_kthread",
        "fast_syscall_common",
        "btext",
    ],
    kthread: &["fork_exit", "fork_trampoline_kthread"],
    cfi: &[
        ("calltrap", State::TrapFrame),
        ("nmi_calltrap", State::TrapFrame),
        ("Xcpustop", State::TrapFrame),
        ("fork_trampoline", State::TrapFrame),
        ("fork_trampoline_kthread", State::Outermost),
        ("fast_syscall_common", State::TrapFrame),
        ("fred_events_handlers", State::TrapFrame),
        ("user_fred_syscall", State::TrapFrame),
    ],
    ..AMD64
};

/// The same on a processor with FRED.
pub(crate) static AMD64_FRED: Names = Names {
    entries: &["fred_events_handlers"],
    assembly: &[
        "fred_events_handlers",
        "user_fred_syscall",
        "user_fred_non_syscall",
        "fork_trampoline",
        "fork_trampoline_kthread",
        "btext",
    ],
    local: "user_fred_syscall",
    syscall: &["amd64_syscall", "user_fred_syscall"],
    fault: &["trap_pfault", "trap", "trap_fred_k", "fred_events_handlers"],
    stop: [
        &["cpustop_handler", "trap_fred_k", "fred_events_handlers"],
        &[
            "cpustop_handler",
            "ipi_nmi_handler",
            "trap",
            "trap_fred_k",
            "fred_events_handlers",
        ],
    ],
    others: &["user_fred_non_syscall", "btext"],
    ..AMD64_15_2
};

impl Names {
    /// Returns the end of every chain of a thread.
    fn tail(&self, user: bool) -> &'static [&'static str] {
        if user { self.syscall } else { self.kthread }
    }

    /// Returns the functions that a thread on a CPU was running.
    fn working(&self, user: bool) -> &'static [&'static str] {
        if user {
            &[
                "sysctl_debug_panic",
                "sysctl_root",
                "userland_sysctl",
                "sys___sysctl",
            ]
        } else {
            self.idle
        }
    }
}

/// Returns the chain of a thread on a CPU that is not stopped.
pub(crate) fn on_cpu(names: &Names, user: bool) -> Chain {
    join(&[names.working(user), names.tail(user)])
}

/// The end of every chain of a kernel thread, up to 15.0.
pub(crate) const KTHREAD: [&str; 2] = ["fork_exit", "fork_trampoline"];
/// The start of the chain of a thread that was switched away from.
const SWITCH: [&str; 2] = ["sched_switch", "mi_switch"];

/// Wait messages of user processes, and the calls that led there.
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

/// The functions that the page fault interrupted.
const FAULT: [&str; 6] = [
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

/// Returns the chain of a thread. `dumping`: the thread panicked. `stopped`: its CPU was stopped.
/// `None`: it is running, and its position is unknown.
pub(crate) fn of(
    names: &Names,
    thread: &Thread,
    user: bool,
    dumping: bool,
    stopped: bool,
) -> Option<Chain> {
    let tail = names.tail(user);
    let working = names.working(user);
    const DUMP: [&str; 4] = ["doadump", "kern_reboot", "vpanic", "panic"];
    Some(match thread.doing {
        Doing::Fresh if user => vec!["fork_trampoline"],
        Doing::Fresh => names.kthread.last().copied().into_iter().collect(),
        Doing::Running if dumping && thread.fault => {
            join(&[&DUMP, names.fatal, names.fault, &FAULT, tail])
        }
        Doing::Running if dumping => join(&[&DUMP, working, tail]),
        Doing::Running if stopped => {
            let odd = thread.cpu.unwrap_or(0) % 2 == 1;
            join(&[names.stop[usize::from(odd)], working, tail])
        }
        Doing::Running => return None,
        Doing::Runnable if user => join(&[&SWITCH, &["kern_yield", "sys_sched_yield"], tail]),
        Doing::Runnable => join(&[&SWITCH, &["kern_yield", "vm_pagezero"], tail]),
        Doing::Stopped => join(&[&SWITCH, &["thread_suspend_switch", "issignal", "ast"], tail]),
        Doing::Sleeping if thread.fault => join(&[
            &SWITCH,
            &["sleepq_wait", "_sleep", "vm_fault_busy_sleep", "vm_fault"],
            names.fault,
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

/// Returns the chain of a thread that panicked and entered the kernel's debugger instead of
/// dumping.
pub(crate) fn in_debugger(dumping: &[&'static str]) -> Chain {
    let panicked = dumping.iter().skip_while(|name| **name != "vpanic");
    ["kdb_enter"].iter().chain(panicked).copied().collect()
}

/// Returns the chain of a thread that waits for a lock.
pub(crate) fn blocked(names: &Names, class: LockClass, user: bool) -> Chain {
    let waiting: &[&'static str] = match class {
        LockClass::Mutex => &["turnstile_wait", "__mtx_lock_sleep"],
        LockClass::Rwlock => &["turnstile_wait", "__rw_wlock_hard"],
        LockClass::Sx => &["sleepq_wait", "_sx_xlock_hard"],
        LockClass::Lockmgr => &["sleepq_wait", "sleeplk", "lockmgr_xlock_hard"],
    };
    let caller: &[&'static str] = match user {
        true => &["kern_kldload", "sys_kldload"],
        false => &["taskqueue_run_locked", "taskqueue_thread_loop"],
    };
    join(&[&SWITCH, waiting, caller, names.tail(user)])
}

/// Returns every chain: a kernel needs functions and calls for all of them. `locks`: also those of
/// [`blocked`].
fn all(names: &Names, locks: bool) -> Vec<Chain> {
    let innermost = names.stop[0][0];
    let mut chains = vec![
        vec!["cpu_switch", "sched_switch"],
        vec!["savectx", innermost],
        vec!["dump_savectx", "doadump"],
        vec!["kdb_enter", "vpanic"],
    ];
    chains.extend(names.others.iter().map(|name| vec![*name]));
    for user in [true, false].into_iter().filter(|_| locks) {
        for class in [
            LockClass::Mutex,
            LockClass::Rwlock,
            LockClass::Sx,
            LockClass::Lockmgr,
        ] {
            chains.push(blocked(names, class, user));
        }
    }
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
                    chains.extend(of(names, &thread, user, dumping, true));
                }
            }
        }
        for (wait, _) in USER_WAITS.iter().chain(&KERNEL_WAITS) {
            let thread = Thread {
                wait: Some((*wait).into()),
                ..Thread::default()
            };
            chains.extend(of(names, &thread, user, false, false));
        }
    }
    chains
}

/// Returns the functions in order of first appearance, each with the functions that it calls.
pub(crate) fn functions(names: &Names, locks: bool) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut functions: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    let mut index = std::collections::BTreeMap::new();
    for chain in all(names, locks) {
        for (i, &name) in chain.iter().enumerate() {
            let at = *index.entry(name).or_insert_with(|| {
                functions.push((name, Vec::new()));
                functions.len() - 1
            });
            // This function calls the previous one, unless a trap is between them.
            if let Some(&inner) = i.checked_sub(1).and_then(|i| chain.get(i))
                && !names.entries.contains(&inner)
                && !functions[at].1.contains(&inner)
            {
                functions[at].1.push(inner);
            }
        }
    }
    functions
}

/// Functions that the compiler of a compiled kernel inlines since 15.0: the function that contains the
/// code, and the inlined one.
pub(crate) const INLINED: [(&str, &str); 2] = [
    ("amd64_syscall", "syscallenter"),
    ("kern_reboot", "kern_dump"),
];
/// Functions that leave by a tail call there, and the called functions.
pub(crate) const TAIL_CALLS: [(&str, &str); 2] = [
    ("sleepq_wait", "mi_switch"),
    ("sleepq_timedwait", "mi_switch"),
];

/// Returns the function that saves the context of the innermost function of a chain.
pub(crate) fn saver(innermost: &str) -> &'static str {
    match innermost {
        "cpustop_handler" | "ipi_stop" => "savectx",
        "doadump" => "dump_savectx",
        _ => "cpu_switch",
    }
}
