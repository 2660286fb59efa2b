//! The types of the C interface, with FreeBSD's names and layouts.
//!
//! Sources, FreeBSD 15.0: `lib/libkvm/kvm.h`, `sys/sys/nlist_aout.h`, `sys/sys/user.h` (`struct
//! kinfo_proc`, whose sizes are `KINFO_PROC_SIZE` in `sys/*/include/proc.h`), `sys/sys/resource.h`,
//! `sys/sys/priority.h`, `sys/*/include/_types.h`.
#![allow(
    non_camel_case_types,
    missing_docs,
    reason = "names of C, which FreeBSD's headers and manual pages explain"
)]

use std::ffi::{c_char, c_int, c_long, c_short, c_uchar, c_uint, c_ulong, c_ushort};

/// A virtual address of a kernel.
pub type kvaddr_t = u64;
/// A physical address.
pub type kpaddr_t = u64;
/// A signed size in a kernel.
pub type kssize_t = i64;
/// `VM_PROT_*`
pub type vm_prot_t = c_uchar;

/// `n_type` of a symbol that was not found.
pub const N_UNDF: c_uchar = 0x00;
/// `n_type` of an absolute symbol.
pub const N_ABS: c_uchar = 0x02;
/// `n_type` of a symbol in read-only memory.
pub const N_TEXT: c_uchar = 0x04;
/// `n_type` of a symbol in writable memory.
pub const N_DATA: c_uchar = 0x06;
/// `n_type` of a symbol in memory that is not in the file.
pub const N_BSS: c_uchar = 0x08;
/// The bit of `n_type` for a global symbol.
pub const N_EXT: c_uchar = 0x01;

/// `kp_version`
pub const LIBKVM_WALK_PAGES_VERSION: c_uint = 2;
/// `kvm_getswapinfo`: device names begin with `/dev/`.
pub const SWIF_DEV_PREFIX: c_int = 0x0002;
/// `kp_prot`: readable.
pub const VM_PROT_READ: vm_prot_t = 1;
/// `kp_prot`: writable.
pub const VM_PROT_WRITE: vm_prot_t = 2;
/// `kp_prot`: executable.
pub const VM_PROT_EXECUTE: vm_prot_t = 4;
/// The size of the buffer for the error of `kvm_openfiles` and `kvm_open2`.
pub const _POSIX2_LINE_MAX: usize = 2048;
/// The number of elements that `kvm_getcptime` writes.
pub const CPUSTATES: usize = 5;

/// `kvm_getprocs`: processes and their threads.
pub const KERN_PROC_ALL: c_int = 0;
/// `kvm_getprocs`: one process.
pub const KERN_PROC_PID: c_int = 1;
/// `kvm_getprocs`: a process group.
pub const KERN_PROC_PGRP: c_int = 2;
/// `kvm_getprocs`: a session.
pub const KERN_PROC_SESSION: c_int = 3;
/// `kvm_getprocs`: a terminal.
pub const KERN_PROC_TTY: c_int = 4;
/// `kvm_getprocs`: an effective user ID.
pub const KERN_PROC_UID: c_int = 5;
/// `kvm_getprocs`: a real user ID.
pub const KERN_PROC_RUID: c_int = 6;
/// `kvm_getprocs`: processes.
pub const KERN_PROC_PROC: c_int = 8;
/// `kvm_getprocs`: a real group ID.
pub const KERN_PROC_RGID: c_int = 10;
/// `kvm_getprocs`: an effective group ID.
pub const KERN_PROC_GID: c_int = 11;
/// `kvm_getprocs`: with all threads.
pub const KERN_PROC_INC_THREAD: c_int = 0x10;

/// `ki_stat`: being created.
pub const SIDL: c_char = 1;
/// `ki_stat`: runnable.
pub const SRUN: c_char = 2;
/// `ki_stat`: sleeping.
pub const SSLEEP: c_char = 3;
/// `ki_stat`: stopped.
pub const SSTOP: c_char = 4;
/// `ki_stat`: zombie.
pub const SZOMB: c_char = 5;
/// `ki_stat`: waiting for an interrupt.
pub const SWAIT: c_char = 6;
/// `ki_stat`: waiting for a lock.
pub const SLOCK: c_char = 7;
/// `ki_kiflag`: has a controlling terminal.
pub const KI_CTTY: c_long = 1;
/// `ki_kiflag`: leads its session.
pub const KI_SLEADER: c_long = 2;
/// `ki_kiflag`: waits for the lock `ki_lockname`.
pub const KI_LOCKBLOCK: c_long = 4;
/// `ki_cr_flags`: in capability mode.
pub const KI_CRF_CAPABILITY_MODE: c_uint = 1;
/// `ki_cr_flags`: more groups than fit.
pub const KI_CRF_GRP_OVERFLOW: c_uint = 0x8000_0000;

/// An open dump. Its address is a number, not memory.
pub struct __kvm {
    _private: (),
}
/// An open dump.
pub type kvm_t = __kvm;

/// A symbol to look up, in the width of the host.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct nlist {
    pub n_name: *const c_char,
    pub n_type: c_uchar,
    pub n_other: c_char,
    pub n_desc: c_short,
    pub n_value: c_ulong,
}

/// A symbol to look up, in the width of any kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct kvm_nlist {
    pub n_name: *const c_char,
    pub n_type: c_uchar,
    pub n_value: kvaddr_t,
}

/// A swap device. Its sizes are in pages.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct kvm_swap {
    pub ksw_devname: [c_char; 32],
    pub ksw_used: c_uint,
    pub ksw_total: c_uint,
    pub ksw_flags: c_int,
    pub ksw_reserved1: c_uint,
    pub ksw_reserved2: c_uint,
}

/// A page or superpage of a dump.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct kvm_page {
    pub kp_version: c_uint,
    pub kp_paddr: kpaddr_t,
    pub kp_kmap_vaddr: kvaddr_t,
    pub kp_dmap_vaddr: kvaddr_t,
    pub kp_prot: vm_prot_t,
    pub kp_offset: i64,
    pub kp_len: usize,
}

/// An address in the dumped kernel. It must not be dereferenced. The header declares it as `void *`.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct kernel_pointer(pub usize);

/// FreeBSD's `time_t`.
#[cfg(target_arch = "x86")]
pub type kvm_time_t = i32;
/// FreeBSD's `time_t`.
#[cfg(not(target_arch = "x86"))]
pub type kvm_time_t = i64;

/// FreeBSD's `struct timeval`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct kvm_timeval {
    pub tv_sec: kvm_time_t,
    pub tv_usec: c_long,
}

/// FreeBSD's `struct rusage`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct kvm_rusage {
    pub ru_utime: kvm_timeval,
    pub ru_stime: kvm_timeval,
    pub ru_maxrss: c_long,
    pub ru_ixrss: c_long,
    pub ru_idrss: c_long,
    pub ru_isrss: c_long,
    pub ru_minflt: c_long,
    pub ru_majflt: c_long,
    pub ru_nswap: c_long,
    pub ru_inblock: c_long,
    pub ru_oublock: c_long,
    pub ru_msgsnd: c_long,
    pub ru_msgrcv: c_long,
    pub ru_nsignals: c_long,
    pub ru_nvcsw: c_long,
    pub ru_nivcsw: c_long,
}

/// FreeBSD's `sigset_t`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct kvm_sigset {
    pub __bits: [u32; 4],
}

/// FreeBSD's `struct priority`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct kvm_priority {
    pub pri_class: c_uchar,
    pub pri_level: c_uchar,
    pub pri_native: c_uchar,
    pub pri_user: c_uchar,
}

/// A process or a thread.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct kinfo_proc {
    pub ki_structsize: c_int,
    pub ki_layout: c_int,
    pub ki_args: kernel_pointer,
    pub ki_paddr: kernel_pointer,
    pub ki_addr: kernel_pointer,
    pub ki_tracep: kernel_pointer,
    pub ki_textvp: kernel_pointer,
    pub ki_fd: kernel_pointer,
    pub ki_vmspace: kernel_pointer,
    pub ki_wchan: kernel_pointer,
    pub ki_pid: i32,
    pub ki_ppid: i32,
    pub ki_pgid: i32,
    pub ki_tpgid: i32,
    pub ki_sid: i32,
    pub ki_tsid: i32,
    pub ki_jobc: c_short,
    pub ki_spare_short1: c_short,
    pub ki_tdev_freebsd11: u32,
    pub ki_siglist: kvm_sigset,
    pub ki_sigmask: kvm_sigset,
    pub ki_sigignore: kvm_sigset,
    pub ki_sigcatch: kvm_sigset,
    pub ki_uid: u32,
    pub ki_ruid: u32,
    pub ki_svuid: u32,
    pub ki_rgid: u32,
    pub ki_svgid: u32,
    pub ki_ngroups: c_short,
    pub ki_spare_short2: c_short,
    pub ki_groups: [u32; 16],
    pub ki_size: c_ulong,
    pub ki_rssize: c_long,
    pub ki_swrss: c_long,
    pub ki_tsize: c_long,
    pub ki_dsize: c_long,
    pub ki_ssize: c_long,
    pub ki_xstat: c_ushort,
    pub ki_acflag: c_ushort,
    pub ki_pctcpu: u32,
    pub ki_estcpu: c_uint,
    pub ki_slptime: c_uint,
    pub ki_swtime: c_uint,
    pub ki_cow: c_uint,
    pub ki_runtime: u64,
    pub ki_start: kvm_timeval,
    pub ki_childtime: kvm_timeval,
    pub ki_flag: c_long,
    pub ki_kiflag: c_long,
    pub ki_traceflag: c_int,
    pub ki_stat: c_char,
    pub ki_nice: i8,
    pub ki_lock: c_char,
    pub ki_rqindex: c_char,
    pub ki_oncpu_old: c_uchar,
    pub ki_lastcpu_old: c_uchar,
    pub ki_tdname: [c_char; 17],
    pub ki_wmesg: [c_char; 9],
    pub ki_login: [c_char; 18],
    pub ki_lockname: [c_char; 9],
    pub ki_comm: [c_char; 20],
    pub ki_emul: [c_char; 17],
    pub ki_loginclass: [c_char; 18],
    pub ki_moretdname: [c_char; 4],
    /// `ki_sparestrings[46]`, in halves that have a default.
    pub ki_sparestrings: [[c_char; 23]; 2],
    pub ki_spareints: [c_int; 2],
    pub ki_tdev: u64,
    pub ki_oncpu: c_int,
    pub ki_lastcpu: c_int,
    pub ki_tracer: c_int,
    pub ki_flag2: c_int,
    pub ki_fibnum: c_int,
    pub ki_cr_flags: c_uint,
    pub ki_jid: c_int,
    pub ki_numthreads: c_int,
    pub ki_tid: i32,
    pub ki_pri: kvm_priority,
    pub ki_rusage: kvm_rusage,
    pub ki_rusage_ch: kvm_rusage,
    pub ki_pcb: kernel_pointer,
    pub ki_kstack: kernel_pointer,
    pub ki_udata: kernel_pointer,
    pub ki_tdaddr: kernel_pointer,
    pub ki_pd: kernel_pointer,
    pub ki_uerrmsg: kernel_pointer,
    pub ki_spareptrs: [kernel_pointer; 4],
    pub ki_sparelongs: [c_long; 12],
    pub ki_sflag: c_long,
    pub ki_tdflags: c_long,
}

// `tests` compares the members with FreeBSD's headers; the header's own compilation, those of other word
// sizes.
const _: () = {
    assert!(size_of::<kvm_swap>() == 52);
    assert!(
        std::mem::offset_of!(nlist, n_name) == 0 && std::mem::offset_of!(kvm_nlist, n_name) == 0
    );
    #[cfg(target_pointer_width = "64")]
    assert!(
        size_of::<kinfo_proc>() == 1088
            && size_of::<nlist>() == 24
            && size_of::<kvm_nlist>() == 24
            && size_of::<kvm_page>() == 56
    );
    #[cfg(target_arch = "x86")]
    assert!(
        size_of::<kinfo_proc>() == 768
            && size_of::<nlist>() == 12
            && size_of::<kvm_nlist>() == 16
            && size_of::<kvm_page>() == 44
    );
    #[cfg(target_arch = "arm")]
    assert!(
        size_of::<kinfo_proc>() == 816
            && size_of::<nlist>() == 12
            && size_of::<kvm_nlist>() == 16
            && size_of::<kvm_page>() == 56
    );
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::mem::offset_of;

    use super::*;

    /// The values of FreeBSD's headers for a machine.
    fn facts(machine: &str) -> BTreeMap<String, String> {
        let text = include_str!("../../../testdata/freebsd-headers/libkvm.txt");
        let (mut facts, mut ours) = (BTreeMap::new(), false);
        for line in text.lines() {
            if let Some(block) = line.strip_prefix("@ ") {
                let (machines, _) = block.split_once(" : ").unwrap();
                ours = machines.split(' ').any(|name| name == machine);
            } else if let Some((expression, value)) = line.split_once(" = ")
                && ours
            {
                facts.insert(expression.to_owned(), value.to_owned());
            }
        }
        facts
    }

    #[test]
    fn layouts_are_those_of_freebsds_headers() {
        let machine = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "i386",
            "aarch64" => "arm64",
            "riscv64" => "riscv",
            other => other,
        };
        let facts = facts(machine);
        if facts.is_empty() {
            // No port of FreeBSD.
            return;
        }
        let mut ours = BTreeMap::from([
            (
                "sizeof(struct kinfo_proc)".to_owned(),
                size_of::<kinfo_proc>().to_string(),
            ),
            (
                "sizeof(struct nlist)".to_owned(),
                size_of::<nlist>().to_string(),
            ),
        ]);
        macro_rules! members {
            ($kind:ident, $of:expr, $($member:ident)*) => {{
                fn size<T>(_: &T) -> usize {
                    size_of::<T>()
                }
                let of = $of;
                $(
                    let name = format!("struct {}.{}", stringify!($kind), stringify!($member));
                    let at = format!("{} {}", offset_of!($kind, $member), size(&of.$member));
                    ours.insert(name, at);
                )*
            }};
        }
        members!(
            kinfo_proc,
            kinfo_proc::default(),
            ki_structsize ki_args ki_paddr ki_wchan ki_pid ki_tsid ki_jobc
            ki_tdev_freebsd11 ki_siglist ki_sigcatch ki_uid ki_ngroups ki_groups ki_size
            ki_rssize ki_ssize ki_xstat ki_pctcpu ki_runtime ki_start ki_childtime
            ki_flag ki_kiflag ki_traceflag ki_stat ki_nice ki_lock ki_oncpu_old
            ki_lastcpu_old ki_tdname ki_wmesg ki_login ki_lockname ki_comm ki_emul
            ki_loginclass ki_moretdname ki_sparestrings ki_spareints ki_tdev ki_oncpu
            ki_lastcpu ki_cr_flags ki_jid ki_numthreads ki_tid ki_pri ki_rusage
            ki_rusage_ch ki_pcb ki_tdaddr ki_pd ki_sparelongs ki_sflag ki_tdflags
        );
        members!(
            nlist,
            nlist {
                n_name: std::ptr::null(),
                n_type: 0,
                n_other: 0,
                n_desc: 0,
                n_value: 0,
            },
            n_name n_type n_other n_desc n_value
        );
        assert_eq!(ours, facts);
    }
}
