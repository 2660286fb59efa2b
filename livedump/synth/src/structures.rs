//! The structures in the type information of a kernel of kind `ctf`.
//!
//! They have the members that the builder writes. The offsets are those of the layout.

use super::counters::{self, OF_PROC, OF_THREAD};
use super::ctf::Structure;
use super::description::Description;
use super::layout::Layout;

/// `struct turnstile`: size, `ts_lockobj`, `ts_owner`.
pub(crate) const TURNSTILE: (u32, u32, u32) = (136, 120, 128);

/// Returns all structures.
pub(crate) fn all(description: &Description, l: &Layout) -> Vec<Structure> {
    let word = l.word;
    let (p, t) = (&l.proc_, &l.thread);
    let object = 2 * word + 8;
    let lock = |name, member| Structure {
        name,
        size: object + 2 * word,
        members: vec![("lock_object", 0, object), (member, object, word)],
    };
    let mut all = vec![
        Structure {
            name: "proc",
            size: p.size,
            members: vec![
                ("p_list", p.list, 2 * word),
                ("p_threads", p.threads, 2 * word),
                ("p_state", p.state, 4),
                ("p_pid", p.pid, 4),
                ("p_comm", p.comm, 20),
            ],
        },
        Structure {
            name: "thread",
            size: t.size,
            members: vec![
                ("td_proc", t.proc_, word),
                ("td_plist", t.plist, 2 * word),
                ("td_tid", t.tid, 4),
                ("td_inhibitors", t.inhibitors, 4),
                ("td_wchan", t.wchan, word),
                ("td_wmesg", t.wmesg, word),
                ("td_blocked", t.blocked, word),
                ("td_lockname", t.lockname, word),
                ("td_name", t.name, 20),
                ("td_pcb", t.pcb, word),
                ("td_state", t.state, 4),
                ("td_kstack", t.kstack, word),
                ("td_kstack_pages", t.kstack_pages, t.kstack_pages_bytes),
            ],
        },
        Structure {
            name: "lock_object",
            size: object,
            members: vec![("lo_name", 0, word), ("lo_flags", word, 4)],
        },
        lock("mtx", "mtx_lock"),
        lock("rwlock", "rw_lock"),
        lock("sx", "sx_lock"),
        lock("lock", "lk_lock"),
        Structure {
            name: "turnstile",
            size: TURNSTILE.0,
            members: vec![
                ("ts_lockobj", TURNSTILE.1, word),
                ("ts_owner", TURNSTILE.2, word),
            ],
        },
    ];
    let more = counters::structures(description, l);
    if !more.is_empty() {
        all[0].members.extend(OF_PROC);
        all[1].members.push(OF_THREAD);
    }
    all.extend(more);
    all
}
