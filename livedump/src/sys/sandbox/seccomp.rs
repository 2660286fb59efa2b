//! seccomp: system calls that livecore does not use fail with EPERM.
//!
//! The filter lists denied calls instead of permitted ones, because the calls that allocation, threads
//! and clocks need depend on the version of the C library.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use super::{Part, Sockets};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Denied to livecore and to the programs that it runs.
const NEVER: &[c_long] = &[
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Parts of the kernel with a large surface.
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine itself.
    libc::SYS_kexec_load,
    #[cfg(not(target_arch = "x86"))]
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_open_by_handle_at,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Denied if the verb runs no other program.
const ALONE: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    // Owners, modes and attributes of files, which Landlock does not restrict.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    libc::SYS_fchmodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    libc::SYS_utimensat,
];

/// The same calls in the x32 ABI, which have other numbers.
#[cfg(target_arch = "x86_64")]
mod x32 {
    /// Set in the number of every x32 call.
    pub(super) const BIT: i64 = 0x4000_0000;
    /// Calls whose x32 numbers differ in other bits as well: execve, ptrace, execveat, process_vm_readv, process_vm_writev,
    /// kexec_load.
    pub(super) const OWN: [i64; 6] = [520, 521, 545, 539, 540, 528];
}

pub(super) fn restrict(sockets: &Sockets, programs: bool) -> Part {
    let apply = || {
        let arch = TargetArch::try_from(std::env::consts::ARCH)
            .map_err(|_| format!("not supported on {}", std::env::consts::ARCH))?;
        let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
        let denied = denied(sockets, programs).map_err(|e| e.to_string())?;
        // A filter cannot read the flags of clone3(2), which are in memory. With ENOSYS, callers use
        // clone(2) instead.
        let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        for (rules, errno) in [(absent, errno(libc::ENOSYS)), (denied, errno(libc::EPERM))] {
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)
                .and_then(BpfProgram::try_from)
                .map_err(|e| e.to_string())?;
            apply_filter(&filter).map_err(|e| e.to_string())?;
        }
        Ok("unused system calls fail with EPERM".to_string())
    };
    Part {
        name: "seccomp",
        state: apply(),
    }
}

fn denied(sockets: &Sockets, programs: bool) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let mut deny = |call: c_long, when: Vec<SeccompRule>| {
        rules.insert(call, when.clone());
        #[cfg(target_arch = "x86_64")]
        rules.insert(call | x32::BIT, when);
    };
    for call in NEVER {
        deny(*call, Vec::new());
    }
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let namespaces = namespaces.map(|flag| {
        let flag = u64::from(flag.unsigned_abs());
        argument(0, SeccompCmpOp::MaskedEq(flag), flag)
    });
    deny(
        libc::SYS_clone,
        namespaces.into_iter().collect::<Result<_, _>>()?,
    );
    // These requests insert characters into the terminal's input, where the shell would run them.
    let terminal = [
        u64::from(libc::TIOCSTI as u32),
        u64::from(libc::TIOCLINUX as u32),
    ];
    let terminal = terminal.map(|request| argument(1, SeccompCmpOp::Eq, request));
    deny(
        libc::SYS_ioctl,
        terminal.into_iter().collect::<Result<_, _>>()?,
    );
    if !programs {
        for call in ALONE {
            deny(*call, Vec::new());
        }
        #[cfg(target_arch = "x86_64")]
        for call in x32::OWN {
            deny(call | x32::BIT, Vec::new());
        }
        // A datagram socket from socketpair(2) can send to any other socket.
        let datagrams = [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET];
        let datagrams = datagrams.map(|kind| {
            let kind = u64::from(kind.unsigned_abs());
            argument(1, SeccompCmpOp::MaskedEq(0xf), kind)
        });
        deny(
            libc::SYS_socketpair,
            datagrams.into_iter().collect::<Result<_, _>>()?,
        );
    }
    let accept = [libc::SYS_accept, libc::SYS_accept4];
    let listen = [libc::SYS_bind, libc::SYS_listen];
    let connect = [libc::SYS_socket, libc::SYS_connect];
    let others: Vec<c_long> = match sockets {
        Sockets::None => [accept, listen, connect].concat(),
        Sockets::Listening => [listen, connect].concat(),
        // The C library binds a netlink socket when it looks up a host.
        Sockets::Connecting => [&accept[..], &[libc::SYS_listen]].concat(),
        Sockets::Unix(_) => {
            let unix = u64::from(libc::AF_UNIX.unsigned_abs());
            deny(libc::SYS_socket, vec![argument(0, SeccompCmpOp::Ne, unix)?]);
            [accept, listen].concat()
        }
        Sockets::Tcp(_) => [accept.as_slice(), &[libc::SYS_listen]].concat(),
        Sockets::All => Vec::new(),
    };
    for call in others {
        deny(call, Vec::new());
    }
    Ok(rules)
}

/// Matches calls by the lower 32 bits of an argument.
fn argument(
    number: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    let length = SeccompCmpArgLen::Dword;
    SeccompRule::new(vec![SeccompCondition::new(
        number, length, operator, value,
    )?])
}
