//! The processes of a machine whose description has none.

use super::process::{Doing, Process, Thread};

fn sleeper(name: &str, wait: &str) -> Thread {
    Thread {
        name: (!name.is_empty()).then(|| name.into()),
        wait: Some(wait.into()),
        ..Thread::default()
    }
}

fn process(pid: u32, name: &str, user: bool, thread: Vec<Thread>) -> Process {
    Process {
        name: name.into(),
        pid,
        count: 1,
        user,
        zombie: false,
        thread,
    }
}

/// Returns the processes of a small server, oldest first. CPU 0 runs `sysctl`, the others are idle.
pub(crate) fn usual(cpus: u32) -> Vec<Process> {
    let idle = (0..cpus)
        .map(|cpu| Thread {
            name: Some(format!("idle: cpu{cpu}")),
            doing: if cpu == 0 {
                Doing::Runnable
            } else {
                Doing::Running
            },
            cpu: (cpu != 0).then_some(cpu),
            ..Thread::default()
        })
        .collect();
    let doing = |doing| Thread {
        doing,
        ..Thread::default()
    };
    vec![
        process(
            0,
            "kernel",
            false,
            vec![
                sleeper("swapper", "swapin"),
                sleeper("softirq_0", "-"),
                sleeper("if_io_tqg_0", "-"),
                sleeper("thread taskq", "-"),
            ],
        ),
        process(1, "init", true, vec![sleeper("", "wait")]),
        process(11, "idle", false, idle),
        process(
            12,
            "intr",
            false,
            vec![
                sleeper("swi4: clock (0)", "intr"),
                sleeper("irq16: ahci0", "intr"),
                Thread {
                    name: Some("swi5: fast taskq".into()),
                    doing: Doing::Fresh,
                    ..Thread::default()
                },
            ],
        ),
        process(
            13,
            "geom",
            false,
            vec![
                sleeper("g_event", "-"),
                sleeper("g_up", "-"),
                sleeper("g_down", "-"),
            ],
        ),
        process(
            28,
            "pagedaemon",
            false,
            vec![
                sleeper("dom0", "psleep"),
                sleeper("laundry: dom0", "psleep"),
                sleeper("uma", "psleep"),
            ],
        ),
        process(30, "vnlru", false, vec![sleeper("", "vlruwt")]),
        process(31, "syncer", false, vec![sleeper("", "syncer")]),
        process(431, "syslogd", true, vec![sleeper("", "kqread")]),
        process(612, "sshd", true, vec![sleeper("", "select")]),
        process(640, "cron", true, vec![sleeper("", "nanslp")]),
        process(702, "getty", true, vec![sleeper("", "ttyin")]),
        process(801, "sh", true, vec![sleeper("", "wait")]),
        process(
            815,
            "worker",
            true,
            vec![
                sleeper("", "kqread"),
                sleeper("pool-0", "uwait"),
                sleeper("pool-1", "uwait"),
                Thread {
                    name: Some("pool-2".into()),
                    doing: Doing::Runnable,
                    ..Thread::default()
                },
            ],
        ),
        process(830, "vi", true, vec![doing(Doing::Stopped)]),
        process(
            841,
            "top",
            true,
            vec![Thread {
                wait: Some("vmpfw".into()),
                fault: true,
                ..Thread::default()
            }],
        ),
        Process {
            zombie: true,
            ..process(902, "true", true, vec![doing(Doing::Fresh)])
        },
        process(
            903,
            "sysctl",
            true,
            vec![Thread {
                doing: Doing::Running,
                cpu: Some(0),
                fault: true,
                ..Thread::default()
            }],
        ),
    ]
}
