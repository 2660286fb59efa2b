//! The network and System V IPC, in machines with the contents of [`super::counters`]: counters of
//! protocols, sockets, counters of NFS, message queues, shared memory and semaphores.
//!
//! Offsets are those of amd64 15.0 with `VIMAGE`, by its headers.

use super::ctf::Structure;
use super::error::Error;
use super::kernel::Variable;
use super::rows::Made;

const VNET: u64 = 64;
const INPCB: u64 = 376;
/// The first part of `struct tcpcb`, up to `t_state`.
const TCPCB: u64 = 600;
const SOCKET: u64 = 1024;
const UNPCB: u64 = 320;
const INPCBINFO: u64 = 184;

/// Counters of a structure: its name, its size, and name, offset and size of each.
type Counters = (&'static str, u32, &'static [(&'static str, u32, u32)]);

const PROTOCOLS: [Counters; 4] = [
    (
        "tcpstat",
        1000,
        &[
            ("tcps_connattempt", 0, 8),
            ("tcps_accepts", 8, 8),
            ("tcps_sndtotal", 136, 8),
            ("tcps_badsyn", 488, 8),
        ],
    ),
    (
        "udpstat",
        112,
        &[
            ("udps_ipackets", 0, 8),
            ("udps_noport", 40, 8),
            ("udps_opackets", 80, 8),
        ],
    ),
    (
        "ipstat",
        232,
        &[
            ("ips_total", 0, 8),
            ("ips_badsum", 8, 8),
            ("ips_localout", 120, 8),
        ],
    ),
    (
        "icmpstat",
        752,
        &[
            ("icps_error", 0, 8),
            ("icps_outhist", 24, 328),
            ("icps_badcode", 352, 8),
            ("icps_inhist", 392, 328),
        ],
    ),
];

/// Returns the variables. Those of the network stack are in `set_vnet`, whose contents are copied.
pub(crate) fn variables() -> Vec<Variable> {
    let mut all = vec![
        Variable::zero("vnet0", 8),
        Variable::zero("vnet_entry_tcbinfo", INPCBINFO),
        Variable::zero("vnet_entry_udbinfo", INPCBINFO),
        Variable::zero("vnet_entry_nfsstatsv1_p", 8),
        Variable::zero("unp_shead", 8).local(),
        Variable::zero("unp_dhead", 8).local(),
        Variable::zero("unp_sphead", 8).local(),
        Variable::zero("msqids", 8).local(),
        Variable::zero("msginfo", 24),
        Variable::zero("shmsegs", 8).local(),
        Variable::zero("shmalloced", 4).local(),
        Variable::zero("sema", 8).local(),
        Variable::zero("seminfo", 36),
    ];
    for (name, (_, size, _)) in [
        "vnet_entry_tcpstat",
        "vnet_entry_udpstat",
        "vnet_entry_ipstat",
        "vnet_entry_icmpstat",
    ]
    .into_iter()
    .zip(PROTOCOLS)
    {
        all.push(Variable::zero(name, u64::from(size)));
    }
    all
}

/// Returns the structures.
pub(crate) fn structures() -> Vec<Structure> {
    let structure = |name, size, members: &[(&'static str, u32, u32)]| Structure {
        name,
        size,
        members: members.to_vec(),
    };
    let mut all = vec![
        structure("vnet", VNET as u32, &[("vnet_data_base", 40, 8)]),
        structure(
            "inpcbinfo",
            INPCBINFO as u32,
            &[("ipi_listhead", 32, 8), ("ipi_count", 40, 4)],
        ),
        structure(
            "inpcb",
            INPCB as u32,
            &[
                ("inp_socket", 80, 8),
                ("inp_vflag", 108, 1),
                ("inp_inc.inc_ie.ie_fport", 136, 2),
                ("inp_inc.inc_ie.ie_lport", 138, 2),
                ("inp_inc.inc_ie.ie_dependfaddr", 140, 16),
                ("inp_inc.inc_ie.ie_dependladdr", 156, 16),
                ("inp_list", 360, 16),
            ],
        ),
        structure(
            "tcpcb",
            1304,
            &[("t_inpcb", 0, INPCB as u32), ("t_state", 596, 4)],
        ),
        structure(
            "socket",
            SOCKET as u32,
            &[
                ("so_options", 184, 4),
                ("so_rcv.sb_ccc", 528, 4),
                ("so_snd.sb_ccc", 736, 4),
                ("sol_qlen", 544, 4),
                ("sol_incqlen", 548, 4),
                ("sol_qlimit", 552, 4),
            ],
        ),
        structure(
            "unpcb",
            UNPCB as u32,
            &[
                ("unp_conn", 32, 8),
                ("unp_addr", 48, 8),
                ("unp_socket", 56, 8),
                ("unp_link", 184, 16),
            ],
        ),
        structure(
            "nfsstatsv1",
            256,
            &[
                ("vers", 0, 4),
                ("attrcache_hits", 8, 8),
                ("rpccnt", 152, 64),
                ("rpcretries", 216, 8),
                ("busyfrom", 224, 16),
            ],
        ),
        structure("msginfo", 24, &[("msgmni", 4, 4)]),
        structure("seminfo", 36, &[("semmni", 0, 4)]),
    ];
    let permission = |name: &'static str, size, members: [&'static str; 4], more: &[_]| {
        let [mode, seq, key, uid] = members;
        let mut all = vec![(uid, 8, 4), (mode, 16, 2), (seq, 18, 2), (key, 24, 8)];
        all.extend_from_slice(more);
        structure(name, size, &all)
    };
    all.extend([
        permission(
            "msqid_kernel",
            120,
            [
                "u.msg_perm.mode",
                "u.msg_perm.seq",
                "u.msg_perm.key",
                "u.msg_perm.uid",
            ],
            &[
                ("u.msg_cbytes", 48, 8),
                ("u.msg_qnum", 56, 8),
                ("u.msg_qbytes", 64, 8),
            ],
        ),
        permission(
            "shmid_kernel",
            104,
            [
                "u.shm_perm.mode",
                "u.shm_perm.seq",
                "u.shm_perm.key",
                "u.shm_perm.uid",
            ],
            &[("u.shm_segsz", 32, 8), ("u.shm_nattch", 48, 4)],
        ),
        permission(
            "semid_kernel",
            80,
            [
                "u.sem_perm.mode",
                "u.sem_perm.seq",
                "u.sem_perm.key",
                "u.sem_perm.uid",
            ],
            &[("u.sem_nsems", 40, 2)],
        ),
    ]);
    all.extend(PROTOCOLS.map(|(name, size, members)| structure(name, size, members)));
    all
}

/// Makes everything, and adds the rows that readers should find.
pub(crate) fn build(made: &mut Made<'_, '_>) -> Result<(), Error> {
    // A copy of `set_vnet`, at the same distance from the symbols as in a kernel.
    let first = made.b.kernel.address("vnet_entry_tcbinfo")?;
    let data = made.b.allocate("the data of vnet0", 2)?;
    let vnet = made.b.slab(VNET)?;
    made.b.set_u64("vnet0", vnet)?;
    let base = data.wrapping_sub(first);
    made.b.poke_u64(vnet + 40, base)?;
    protocols(made, base)?;
    internet(made, base)?;
    local(made)?;
    nfs(made, base)?;
    ipc(made)
}

/// Returns the address of a variable in the copy for `vnet0`.
fn copy(made: &Made<'_, '_>, base: u64, name: &str) -> Result<u64, Error> {
    let symbol = made.b.kernel.address(&format!("vnet_entry_{name}"))?;
    Ok(symbol.wrapping_add(base))
}

fn protocols(made: &mut Made<'_, '_>, base: u64) -> Result<(), Error> {
    for (protocol, structure, counter, offset, value) in [
        ("tcp", "tcpstat", "tcps_connattempt", 0, 12_u64),
        ("tcp", "tcpstat", "tcps_sndtotal", 136, 5 << 32),
        ("udp", "udpstat", "udps_noport", 40, 7),
        ("ip", "ipstat", "ips_total", 0, 100_000),
        ("icmp", "icmpstat", "icps_outhist[3]", 48, 4),
        ("icmp", "icmpstat", "icps_inhist[8]", 456, 9),
    ] {
        let pointer = made.per_cpu(&[value])?;
        let at = copy(made, base, structure)?;
        made.b.poke_u64(at + offset, pointer)?;
        made.row("netstat-s", &[&protocol, &counter, &value]);
    }
    Ok(())
}

/// A connection, as it is in memory.
struct Connection {
    is_tcp: bool,
    /// Versions of IP.
    versions: u8,
    /// Addresses of IPv6, or of IPv4 in the last four bytes, and ports.
    local: ([u8; 16], u16),
    foreign: ([u8; 16], u16),
    state: u32,
    /// Bytes in the buffers, or lengths of listen queues.
    socket: Result<[u32; 2], [u32; 3]>,
    /// What readers print.
    row: [&'static str; 4],
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
}

const LOOPBACK6: [u8; 16] = v4(0, 0, 0, 1);

fn internet(made: &mut Made<'_, '_>, base: u64) -> Result<(), Error> {
    let connections = [
        Connection {
            is_tcp: true,
            versions: 1,
            local: (v4(192, 0, 2, 1), 22),
            foreign: (v4(198, 51, 100, 7), 50_000),
            state: 4,
            socket: Ok([36, 1500]),
            row: ["tcp4", "192.0.2.1.22", "198.51.100.7.50000", "ESTABLISHED"],
        },
        Connection {
            is_tcp: true,
            versions: 3,
            local: (v4(0, 0, 0, 0), 80),
            foreign: (v4(0, 0, 0, 0), 0),
            state: 1,
            socket: Err([2, 1, 128]),
            row: ["tcp46", "*.80", "*.*", "LISTEN"],
        },
        Connection {
            is_tcp: false,
            versions: 2,
            local: (LOOPBACK6, 123),
            foreign: (v4(0, 0, 0, 0), 0),
            state: 0,
            socket: Ok([0, 0]),
            row: ["udp6", "::1.123", "*.*", "-"],
        },
    ];
    let mut ends = [
        copy(made, base, "tcbinfo")? + 32,
        copy(made, base, "udbinfo")? + 32,
    ];
    for connection in connections {
        let end = &mut ends[usize::from(!connection.is_tcp)];
        let pcb = made.b.slab(if connection.is_tcp { TCPCB } else { INPCB })?;
        made.b.poke_u64(*end, pcb)?;
        made.b.poke_u64(pcb + 360 + 8, *end)?;
        *end = pcb + 360;
        let so = socket(made, &connection.socket)?;
        made.b.poke_u64(pcb + 80, so)?;
        made.b.poke(pcb + 108, &[connection.versions])?;
        for ((address, port), addresses, ports) in
            [(connection.foreign, 140, 136), (connection.local, 156, 138)]
        {
            made.b.poke(pcb + addresses, &address)?;
            made.b.poke(pcb + ports, &port.to_be_bytes())?;
        }
        if connection.is_tcp {
            made.b.poke_u32(pcb + 596, connection.state)?;
        }
        let [protocol, local, foreign, state] = connection.row;
        rows(
            made,
            pcb,
            &connection.socket,
            [protocol, local, foreign, state],
        );
    }
    Ok(())
}

/// Makes a socket with bytes in its buffers, or with listen queues.
fn socket(made: &mut Made<'_, '_>, state: &Result<[u32; 2], [u32; 3]>) -> Result<u64, Error> {
    let at = made.b.slab(SOCKET)?;
    match state {
        Ok([received, sent]) => {
            made.b.poke_u32(at + 528, *received)?;
            made.b.poke_u32(at + 736, *sent)?;
        }
        Err(lengths) => {
            made.b.poke_u32(at + 184, 2)?;
            for (offset, length) in (544..).step_by(4).zip(lengths) {
                made.b.poke_u32(at + offset, *length)?;
            }
        }
    }
    Ok(at)
}

fn rows(
    made: &mut Made<'_, '_>,
    pcb: u64,
    socket: &Result<[u32; 2], [u32; 3]>,
    [protocol, local, foreign, state]: [&str; 4],
) {
    let at = format!("{pcb:#x}");
    match socket {
        Ok([received, sent]) => made.row(
            "netstat-A",
            &[&protocol, &at, received, sent, &local, &foreign, &state],
        ),
        Err([complete, incomplete, limit]) => {
            made.row(
                "netstat-A",
                &[&protocol, &at, &"-", &"-", &local, &foreign, &state],
            );
            made.row(
                "netstat-L",
                &[&protocol, complete, incomplete, limit, &local],
            );
        }
    }
}

/// Sockets of the local domain: one that listens and two that are connected.
fn local(made: &mut Made<'_, '_>) -> Result<(), Error> {
    let pcbs = [
        made.b.slab(UNPCB)?,
        made.b.slab(UNPCB)?,
        made.b.slab(UNPCB)?,
    ];
    let [listens, first, second] = pcbs;
    let path = made.b.slab(106)?;
    let name = b"/var/run/log";
    made.b.poke(path, &[2 + name.len() as u8, 1])?;
    made.b.poke(path + 2, name)?;
    // What follows the path is from another address.
    made.b.poke(path + 2 + name.len() as u64, b"/old")?;
    for (protocol, head, at, state, address, peer) in [
        ("stream", "unp_shead", listens, Err([0, 0, 10]), path, 0),
        ("dgram", "unp_dhead", first, Ok([5, 0]), 0, second),
        ("seqpac", "unp_sphead", second, Ok([0, 0]), 0, first),
    ] {
        made.b.set_u64(head, at)?;
        let so = socket(made, &state)?;
        made.b.poke_u64(at + 32, peer)?;
        made.b.poke_u64(at + 48, address)?;
        made.b.poke_u64(at + 56, so)?;
        let foreign = format!("{peer:#x}");
        let row = match peer {
            0 => [protocol, "/var/run/log", "-", "LISTEN"],
            _ => [protocol, "-", &foreign, "CONNECTED"],
        };
        rows(made, at, &state, row);
    }
    Ok(())
}

fn nfs(made: &mut Made<'_, '_>, base: u64) -> Result<(), Error> {
    let at = made.b.slab(256)?;
    let pointer = copy(made, base, "nfsstatsv1_p")?;
    made.b.poke_u64(pointer, at)?;
    for (name, offset, value) in [
        ("attrcache_hits", 8, 31_u64),
        ("rpccnt[1]", 160, 17),
        ("rpcretries", 216, 2),
    ] {
        made.b.poke_u64(at + offset, value)?;
        made.row("nfsstat", &[&name, &value]);
    }
    // A time, which is no counter.
    made.b.poke_u64(at + 224, 1)
}

fn ipc(made: &mut Made<'_, '_>) -> Result<(), Error> {
    let queues = made.b.slab(2 * 120)?;
    made.b.set_u64("msqids", queues)?;
    let info = made.b.kernel.address("msginfo")?;
    made.b.poke_u32(info + 4, 2)?;
    // The first queue is not in use.
    permission(made, queues + 120, [0o660, 3, 0x6b65_7931, 1001])?;
    for (offset, value) in [(48, 256), (56, 2), (64, 2048)] {
        made.b.poke_u64(queues + 120 + offset, value)?;
    }
    made.row(
        "ipcs",
        &[
            &"message queue",
            &((3 << 16) + 1),
            &"0x6b657931",
            &"660",
            &1001,
            &256,
            &2,
        ],
    );
    let segments = made.b.slab(2 * 104)?;
    made.b.set_u64("shmsegs", segments)?;
    made.b.set_u32("shmalloced", 2)?;
    permission(made, segments, [0o600 | 0x800, 0, 0, 70])?;
    made.b.poke_u64(segments + 32, 1 << 30)?;
    made.b.poke_u32(segments + 48, 4)?;
    // A removed segment.
    permission(made, segments + 104, [0o600 | 0x400, 0, 0, 70])?;
    made.row(
        "ipcs",
        &[&"shared memory", &0, &"0x0", &"600", &70, &(1 << 30), &4],
    );
    let semaphores = made.b.slab(80)?;
    made.b.set_u64("sema", semaphores)?;
    let info = made.b.kernel.address("seminfo")?;
    made.b.poke_u32(info, 1)?;
    permission(made, semaphores, [0o644 | 0o1000, 7, u64::MAX, 0])?;
    made.b.poke(semaphores + 40, &17_u16.to_le_bytes())?;
    made.row(
        "ipcs",
        &[
            &"semaphores",
            &(7 << 16),
            &"0xffffffffffffffff",
            &"644",
            &0,
            &"-",
            &17,
        ],
    );
    Ok(())
}

/// Writes a `struct ipc_perm`: mode, sequence number, key and owner.
fn permission(
    made: &mut Made<'_, '_>,
    at: u64,
    [mode, sequence, key, owner]: [u64; 4],
) -> Result<(), Error> {
    made.b.poke_u32(at + 8, owner as u32)?;
    made.b.poke(at + 16, &(mode as u16).to_le_bytes())?;
    made.b.poke(at + 18, &(sequence as u16).to_le_bytes())?;
    made.b.poke_u64(at + 24, key)
}
