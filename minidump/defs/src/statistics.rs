//! Counters, interrupts, devices and files: what the programs that crashinfo(8) runs read.

/// The first `__FreeBSD_version` in which the members of `struct vmmeter` before `v_page_size` point to
/// a counter(9) (`sys/sys/vmmeter.h`).
pub const VMMETER_COUNTERS: u32 = 1_200_000;

/// The first `__FreeBSD_version` in which amd64 stores per-CPU pointers relative to `__pcpu`
/// (`sys/amd64/include/pcpu.h`).
pub const AMD64_RELATIVE_PCPU: u32 = 1_300_000;

/// The largest plausible length of a name in `intrnames`. `INTRNAME_LEN` is 20 on x86 and powerpc
/// (`sys/x86/x86/intr_machdep.c`) and 39 on the others (`sys/kern/subr_intr.c`).
pub const INTRNAME_MAX: u64 = 256;

/// `DEVSTAT_READ`: the index of reads in the arrays of `struct devstat` (`sys/sys/devicestat.h`).
pub const DEVSTAT_READ: u64 = 1;
/// `DEVSTAT_WRITE`
pub const DEVSTAT_WRITE: u64 = 2;

/// `DDB_CAPTURE_MAXBUFSIZE`: the largest capture buffer of ddb(4) in bytes (`sys/ddb/db_capture.c`).
pub const DDB_CAPTURE_MAXBUFSIZE: u64 = 5 << 20;

/// Names of the values of `f_type` in `struct file`, `DTYPE_NONE` to `DTYPE_JAILDESC`
/// (`sys/sys/file.h`).
pub const FILE_TYPES: [&str; 17] = [
    "none", "vnode", "socket", "pipe", "fifo", "kqueue", "crypto", "mqueue", "shm", "sem", "pts",
    "dev", "procdesc", "eventfd", "timerfd", "inotify", "jaildesc",
];

/// The zones of mbufs and clusters, by their names (`sys/sys/mbuf.h`).
pub const MBUF_ZONES: [&str; 6] = [
    "mbuf",
    "mbuf_packet",
    "mbuf_cluster",
    "mbuf_jumbo_page",
    "mbuf_jumbo_9k",
    "mbuf_jumbo_16k",
];
/// Protocols, and the names of their counters. Those of a protocol are an array of counter(9) in the
/// order of the structure with the same name (`VNET_PCPUSTAT_DEFINE`).
pub const PROTOCOLS: [(&str, &str); 10] = [
    ("ip", "ipstat"),
    ("icmp", "icmpstat"),
    ("igmp", "igmpstat"),
    ("arp", "arpstat"),
    ("tcp", "tcpstat"),
    ("udp", "udpstat"),
    ("ip6", "ip6stat"),
    ("icmp6", "icmp6stat"),
    ("rip6", "rip6stat"),
    ("route", "rtstat"),
];
/// Names of the values of `t_state` (`sys/netinet/tcp_fsm.h`).
pub const TCP_STATES: [&str; 11] = [
    "CLOSED",
    "LISTEN",
    "SYN_SENT",
    "SYN_RCVD",
    "ESTABLISHED",
    "CLOSE_WAIT",
    "FIN_WAIT_1",
    "CLOSING",
    "LAST_ACK",
    "FIN_WAIT_2",
    "TIME_WAIT",
];
/// `inp_vflag` (`sys/netinet/in_pcb.h`)
pub const INP_IPV4: u64 = 1;
/// `inp_vflag`
pub const INP_IPV6: u64 = 2;
/// `so_options` (`sys/sys/socket.h`): the socket accepts connections.
pub const SO_ACCEPTCONN: u64 = 2;
/// The offset of `sun_path` in `struct sockaddr_un`.
pub const SUN_PATH: u64 = 2;
/// The maximum number of objects of System V: an id has 16 bits for the index.
pub const IPC_LIMIT: u64 = 1 << 16;
/// A bit of `shm_perm.mode`: the segment is in use (`sys/kern/sysv_shm.c`).
pub const SHMSEG_ALLOCATED: u64 = 0x0800;
/// A bit of `sem_perm.mode`: the semaphores are in use (`sys/sys/sem.h`).
pub const SEM_ALLOC: u64 = 0o1000;
