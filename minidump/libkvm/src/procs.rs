//! `kvm_getprocs`: the processes and threads of a dump as `struct kinfo_proc` (FreeBSD
//! `lib/libkvm/kvm_proc.c`).

use std::ffi::{c_char, c_int, c_long, c_ulong};

use livecore_kernel::{Kernel, Process, Thread};

use crate::abi::{
    KERN_PROC_ALL, KERN_PROC_GID, KERN_PROC_INC_THREAD, KERN_PROC_PGRP, KERN_PROC_PID,
    KERN_PROC_PROC, KERN_PROC_RGID, KERN_PROC_RUID, KERN_PROC_SESSION, KERN_PROC_TTY,
    KERN_PROC_UID, KI_CRF_CAPABILITY_MODE, KI_CRF_GRP_OVERFLOW, KI_CTTY, KI_LOCKBLOCK, KI_SLEADER,
    SIDL, SLOCK, SRUN, SSLEEP, SSTOP, SWAIT, SZOMB, kernel_pointer, kinfo_proc, kvm_sigset,
};
use crate::failure::Failure;
use crate::handle::characters;
use crate::opened::Opened;
use crate::record::Record;

/// `ki_tdev` without a terminal.
const NODEV: u64 = u64::MAX;
/// `p_flag`: has a controlling terminal (`P_CONTROLT`).
const CONTROLT: u64 = 0x2;
/// `p_flag`: stopped (`P_STOPPED`).
const STOPPED: u64 = 0xe_0000;
/// `cr_flags`: in capability mode (`CRED_FLAG_CAPMODE`).
const CAPMODE: u64 = 1;
/// `p_state`: being created (`PRS_NEW`).
const NEW: u64 = 0;
/// `p_state`: with threads that can run (`PRS_NORMAL`).
const NORMAL: u64 = 1;

/// The selection of `kvm_getprocs`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    what: c_int,
    arg: c_int,
    threads: bool,
}

impl Wanted {
    /// # Errors
    ///
    /// If `op` is not a selection of processes.
    pub(crate) fn new(op: c_int, arg: c_int) -> Result<Self, Failure> {
        let what = op & !KERN_PROC_INC_THREAD;
        let known = [
            KERN_PROC_ALL,
            KERN_PROC_PID,
            KERN_PROC_PGRP,
            KERN_PROC_SESSION,
            KERN_PROC_TTY,
            KERN_PROC_UID,
            KERN_PROC_RUID,
            KERN_PROC_PROC,
            KERN_PROC_RGID,
            KERN_PROC_GID,
        ];
        if !known.contains(&what) {
            return Err(Failure::hard(format_args!(
                "kvm_getprocs: unsupported operation {op}"
            )));
        }
        Ok(Self {
            what,
            arg,
            threads: what == KERN_PROC_ALL || op & KERN_PROC_INC_THREAD != 0,
        })
    }

    fn accepts(&self, info: &kinfo_proc, terminal: bool) -> bool {
        let id = self.arg as u32;
        match self.what {
            KERN_PROC_PID => info.ki_pid == self.arg,
            KERN_PROC_PGRP => info.ki_pgid == self.arg,
            KERN_PROC_SESSION => info.ki_sid == self.arg,
            KERN_PROC_TTY => terminal && info.ki_tdev == self.arg as u64,
            KERN_PROC_UID => info.ki_uid == id,
            KERN_PROC_RUID => info.ki_ruid == id,
            KERN_PROC_RGID => info.ki_rgid == id,
            KERN_PROC_GID => info.ki_groups[0] == id,
            _ => true,
        }
    }
}

/// The variables of the kernel that times are computed with.
struct Clock {
    ticks: u32,
    hz: u32,
    tick_frequency: u64,
}

impl Clock {
    fn read(kernel: &Kernel<'_>) -> Self {
        let read = |name, len| kernel.variable(name, len).unwrap_or(0);
        Self {
            ticks: read("ticks", 4) as u32,
            hz: read("hz", 4) as u32,
            tick_frequency: read("cpu_tick_frequency", 8),
        }
    }

    /// Microseconds from ticks of the CPU's counter.
    fn microseconds(&self, ticks: u64) -> u64 {
        let Some(rest) = ticks.checked_rem(self.tick_frequency) else {
            return 0;
        };
        let seconds = ticks / self.tick_frequency;
        let rest = u128::from(rest) * 1_000_000 / u128::from(self.tick_frequency);
        // Less than a second.
        seconds.wrapping_mul(1_000_000).wrapping_add(rest as u64)
    }
}

/// Reads the processes, and their threads if wanted: one record for each thread, else one for each
/// process.
pub(crate) fn read(opened: &Opened, wanted: Wanted) -> Result<Vec<kinfo_proc>, Failure> {
    opened.native("cannot read procs from non-native core")?;
    let kernel = opened.typed()?;
    let clock = Clock::read(kernel);
    let mut found = Vec::new();
    for process in kernel.processes()?.list {
        let record = Record::read(kernel, "proc", process.at.0);
        let state = record.as_ref().and_then(|proc| proc.uint("p_state"));
        if state == Some(NEW) {
            continue;
        }
        let mut info = of_process(&process, record.as_ref(), &clock);
        let flags = record.as_ref().and_then(|proc| proc.uint("p_flag"));
        if !wanted.accepts(&info, flags.unwrap_or(0) & CONTROLT != 0) {
            continue;
        }
        // A zombie has one record, and so has a process whose threads cannot be read.
        let threads = match process.zombie {
            true => &[],
            false => process.threads.as_slice(),
        };
        if threads.is_empty() {
            info.ki_stat = if process.zombie { SZOMB } else { SIDL };
            found.push(info);
        }
        for thread in threads {
            let mut info = info;
            let own = Record::read(kernel, "thread", thread.at.0);
            add_thread(&mut info, thread, own.as_ref());
            info.ki_stat = status(state, flags.unwrap_or(0), thread, own.as_ref());
            found.push(info);
            if !wanted.threads {
                break;
            }
        }
    }
    Ok(found)
}

/// What a process has in common with its threads.
fn of_process(process: &Process, record: Option<&Record<'_>>, clock: &Clock) -> kinfo_proc {
    let mut info = kinfo_proc {
        ki_structsize: size_of::<kinfo_proc>() as c_int,
        ki_paddr: pointer(process.at.0),
        ki_pid: process.pid,
        ki_ppid: process.ppid.unwrap_or(0),
        ki_numthreads: c_int::try_from(process.threads.len()).unwrap_or(c_int::MAX),
        ki_tdev: NODEV,
        ..kinfo_proc::default()
    };
    copy(&mut info.ki_comm, process.comm.as_bytes());
    if let Some(proc) = record {
        add_process(&mut info, proc, process.zombie, clock);
        if let Some(ucred) = proc.follow("p_ucred", "ucred") {
            add_credentials(&mut info, &ucred);
        }
        if let Some(pgrp) = proc.follow("p_pgrp", "pgrp") {
            let terminal = proc.uint("p_flag").unwrap_or(0) & CONTROLT != 0;
            add_group(&mut info, &pgrp, process.at.0, terminal);
        }
    }
    info.ki_tdev_freebsd11 = info.ki_tdev as u32;
    info
}

fn add_process(info: &mut kinfo_proc, proc: &Record<'_>, zombie: bool, clock: &Clock) {
    let uint = |name: &str| proc.uint(name).unwrap_or(0);
    let int = |name: &str| proc.int(name).unwrap_or(0) as c_int;
    info.ki_args = pointer(uint("p_args"));
    info.ki_textvp = pointer(uint("p_textvp"));
    info.ki_fd = pointer(uint("p_fd"));
    info.ki_pd = pointer(uint("p_pd"));
    info.ki_vmspace = pointer(uint("p_vmspace"));
    if proc.has("p_numthreads") {
        info.ki_numthreads = int("p_numthreads");
    }
    if let Some(parent) = proc.int("p_oppid").filter(|pid| *pid != 0) {
        info.ki_ppid = parent as c_int;
    } else if uint("p_pptr") == 0 {
        info.ki_ppid = 0;
    }
    if let Some(actions) = proc.follow("p_sigacts", "sigacts") {
        info.ki_sigignore = signals(&actions, "ps_sigignore");
        info.ki_sigcatch = signals(&actions, "ps_sigcatch");
    }
    if let Some(space) = proc.follow("p_vmspace", "vmspace") {
        let pages = |name: &str| space.int(name).unwrap_or(0) as c_long;
        info.ki_size = space.uint("vm_map.size").unwrap_or(0) as c_ulong;
        info.ki_rssize = pages("vm_pmap.pm_stats.resident_count");
        info.ki_swrss = pages("vm_swrss");
        info.ki_tsize = pages("vm_tsize");
        info.ki_dsize = pages("vm_dsize");
        info.ki_ssize = pages("vm_ssize");
    }
    let system = proc.follow("p_sysent", "sysentvec");
    let emulation = system.and_then(|system| system.string("sv_name", info.ki_emul.len() - 1));
    copy(&mut info.ki_emul, &emulation.unwrap_or_default());
    info.ki_runtime = clock.microseconds(uint("p_rux.rux_runtime"));
    // `KW_EXITCODE`
    info.ki_xstat = ((uint("p_xexit") & 0xff) << 8 | uint("p_xsig") & 0xff) as u16;
    info.ki_acflag = uint("p_acflag") as u16;
    info.ki_lock = uint("p_lock") as c_char;
    info.ki_siglist = signals(proc, "p_sigqueue.sq_signals");
    if !zombie {
        let ticks = clock.ticks.wrapping_sub(uint("p_swtick") as u32);
        info.ki_swtime = ticks.checked_div(clock.hz).unwrap_or(0);
        info.ki_flag = int("p_flag").into();
        info.ki_nice = proc.int("p_nice").unwrap_or(0) as i8;
        info.ki_traceflag = int("p_traceflag");
    }
}

fn add_credentials(info: &mut kinfo_proc, ucred: &Record<'_>) {
    let id = |name: &str| ucred.uint(name).unwrap_or(0) as u32;
    info.ki_uid = id("cr_uid");
    info.ki_ruid = id("cr_ruid");
    info.ki_svuid = id("cr_svuid");
    info.ki_rgid = id("cr_rgid");
    info.ki_svgid = id("cr_svgid");
    if ucred.uint("cr_flags").unwrap_or(0) & CAPMODE != 0 {
        info.ki_cr_flags |= KI_CRF_CAPABILITY_MODE;
    }
    // Since 15.0, the effective group is `cr_gid` and not the first one of `cr_groups`.
    let apart = usize::from(ucred.has("cr_gid"));
    let limit = info.ki_groups.len();
    let count = ucred
        .uint("cr_ngroups")
        .unwrap_or(0)
        .saturating_add(apart as u64);
    if count > limit as u64 {
        info.ki_cr_flags |= KI_CRF_GRP_OVERFLOW;
    }
    let count = limit.min(usize::try_from(count).unwrap_or(limit));
    info.ki_ngroups = count as i16; // at most 16
    if apart == 1 {
        info.ki_groups[0] = id("cr_gid");
    }
    for (slot, group) in info.ki_groups[..count]
        .iter_mut()
        .skip(apart)
        .zip(ucred.words("cr_groups", count))
    {
        *slot = group;
    }
    if let Some(prison) = ucred.follow("cr_prison", "prison") {
        info.ki_jid = prison.int("pr_id").unwrap_or(0) as c_int;
    }
}

fn add_group(info: &mut kinfo_proc, pgrp: &Record<'_>, process: u64, terminal: bool) {
    info.ki_pgid = pgrp.int("pg_id").unwrap_or(0) as c_int;
    info.ki_jobc = -1;
    let Some(session) = pgrp.follow("pg_session", "session") else {
        return;
    };
    info.ki_sid = session.int("s_sid").unwrap_or(0) as c_int;
    copy(
        &mut info.ki_login,
        session.text("s_login").unwrap_or_default(),
    );
    if session.uint("s_ttyvp").unwrap_or(0) != 0 {
        info.ki_kiflag |= KI_CTTY;
    }
    if session.uint("s_leader") == Some(process) {
        info.ki_kiflag |= KI_SLEADER;
    }
    let tty = session.follow("s_ttyp", "tty").filter(|_| terminal);
    let Some(tty) = tty else {
        return;
    };
    if tty.uint("t_dev") == Some(0) {
        info.ki_tdev = 0;
    }
    let group = tty.follow("t_pgrp", "pgrp");
    let group = group.map(|pgrp| pgrp.int("pg_id").unwrap_or(0) as c_int);
    info.ki_tpgid = group.unwrap_or(-1);
    if let Some(session) = tty.follow("t_session", "session") {
        info.ki_tsid = session.int("s_sid").unwrap_or(0) as c_int;
    }
}

fn add_thread(info: &mut kinfo_proc, thread: &Thread, record: Option<&Record<'_>>) {
    info.ki_tid = thread.tid;
    let name = thread.name.as_bytes();
    let fits = name.len().min(info.ki_tdname.len() - 1);
    copy(&mut info.ki_tdname, name);
    copy(&mut info.ki_moretdname, &name[fits..]);
    let cpu = |cpu: Option<i64>| cpu.and_then(|cpu| c_int::try_from(cpu).ok()).unwrap_or(-1);
    info.ki_oncpu = thread.cpu.map_or(-1, |cpu| cpu as c_int);
    info.ki_lastcpu = -1;
    if let Some(record) = record {
        info.ki_lastcpu = cpu(record.int("td_lastcpu"));
        info.ki_wchan = pointer(record.uint("td_wchan").unwrap_or(0));
        info.ki_pri.pri_level = record.uint("td_priority").unwrap_or(0) as u8;
        info.ki_pri.pri_native = record.uint("td_base_pri").unwrap_or(0) as u8;
        info.ki_sigmask = signals(record, "td_sigmask");
        let pending = signals(record, "td_sigqueue.sq_signals");
        for (bits, more) in info.ki_siglist.__bits.iter_mut().zip(pending.__bits) {
            *bits |= more;
        }
        let message = record.string("td_wmesg", info.ki_wmesg.len() - 1);
        copy(&mut info.ki_wmesg, &message.unwrap_or_default());
        if record.uint("td_blocked").unwrap_or(0) != 0 {
            info.ki_kiflag |= KI_LOCKBLOCK;
            let lock = record.string("td_lockname", info.ki_lockname.len() - 1);
            copy(&mut info.ki_lockname, &lock.unwrap_or_default());
        }
    }
    // NOCPU_OLD is 255, MAXCPU_OLD is 254.
    let old = |cpu: c_int| if cpu < 0 { 255 } else { cpu.min(254) as u8 };
    info.ki_oncpu_old = old(info.ki_oncpu);
    info.ki_lastcpu_old = old(info.ki_lastcpu);
}

/// `ki_stat`, from `p_state`, `p_flag`, `td_state` and `td_inhibitors`. Without type information, from
/// the CPU of the thread alone.
fn status(state: Option<u64>, flags: u64, thread: &Thread, record: Option<&Record<'_>>) -> c_char {
    let running = if thread.cpu.is_some() { SRUN } else { SSLEEP };
    let (Some(record), Some(state)) = (record, state) else {
        return running;
    };
    if state != NORMAL {
        return SIDL;
    }
    let inhibitors = record.uint("td_inhibitors").unwrap_or(0);
    match record.uint("td_state") {
        // TDS_INHIBITED
        Some(1) if flags & STOPPED != 0 => SSTOP,
        Some(1) if inhibitors & 0x2 != 0 => SSLEEP,
        Some(1) if inhibitors & 0x8 != 0 => SLOCK,
        Some(1) => SWAIT,
        // TDS_CAN_RUN, TDS_RUNQ, TDS_RUNNING
        Some(2..=4) => SRUN,
        Some(_) => 0,
        None => running,
    }
}

fn pointer(at: u64) -> kernel_pointer {
    // A native kernel's pointers fit.
    kernel_pointer(at as usize)
}

/// The `sigset_t` of a member: four words.
fn signals(record: &Record<'_>, member: &str) -> kvm_sigset {
    let mut set = kvm_sigset::default();
    let bytes = record.bytes(member).unwrap_or_default();
    for (slot, word) in set.__bits.iter_mut().zip(bytes.chunks_exact(4)) {
        // Of a native kernel.
        *slot = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
    }
    set
}

/// Copies a string into a member, with at least one zero byte.
fn copy(member: &mut [c_char], text: &[u8]) {
    let end = member.len().saturating_sub(1);
    for (slot, c) in member[..end].iter_mut().zip(characters(text)) {
        *slot = c;
    }
}
