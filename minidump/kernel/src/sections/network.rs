//! The network: counters of protocols, sockets, counters of NFS.
//!
//! FreeBSD `sys/net/vnet.h`, `sys/netinet/{in_pcb,tcp_var,tcp_fsm}.h`, `sys/sys/{socketvar,unpcb}.h`,
//! `sys/fs/nfs/nfsport.h`.

use std::net::{Ipv4Addr, Ipv6Addr};

use livecore_defs::statistics::{
    INP_IPV4, INP_IPV6, PROTOCOLS, SO_ACCEPTCONN, SUN_PATH, TCP_STATES,
};
use livecore_minidump::VirtAddr;

use crate::error::KernelError;
use crate::structure::Member;

use super::Cell;
use super::reader::{LIST, Reader};

type Rows = Result<Vec<Vec<Cell>>, KernelError>;

/// The maximum number of counters of one structure.
const COUNTERS: u64 = 1 << 12;

/// Returns the address of a variable of the network stack: of the first one, if the kernel has a copy for
/// each vnet(9).
fn of_vnet(reader: &Reader<'_>, name: &str) -> Result<VirtAddr, KernelError> {
    let Ok(at) = reader.kernel.address(&format!("vnet_entry_{name}")) else {
        return reader.kernel.address(name);
    };
    let vnet = reader.kernel.pointer("vnet0")?;
    let base = reader.field(vnet, "vnet", "vnet_data_base")?;
    Ok(at.wrapping_add(base))
}

/// The names of the 64-bit counters in a structure, and their offsets. Those of an array have its index.
fn counters(reader: &Reader<'_>, structure: &str) -> Result<Vec<(String, u64)>, KernelError> {
    let size = reader.size_of(structure)?;
    let types = reader.kernel.types().and_then(|t| t.structure(structure));
    let missing = || KernelError::NoMember(structure.into());
    let mut found = Vec::new();
    for (name, Member { offset, size: len }) in types.ok_or_else(missing)?.members() {
        let fits = offset.checked_add(len).is_some_and(|end| end <= size);
        if !fits || len == 0 || !len.is_multiple_of(8) || name.contains('.') {
            continue;
        }
        for i in 0..len / 8 {
            if found.len() as u64 >= COUNTERS {
                return Ok(found);
            }
            let name = match len {
                8 => name.to_string(),
                _ => format!("{name}[{i}]"),
            };
            found.push((name, offset + 8 * i));
        }
    }
    found.sort_by_key(|(_, offset)| *offset);
    Ok(found)
}

/// The counters of the protocols that are not 0. Each is a counter(9).
pub(super) fn protocols(reader: &mut Reader<'_>) -> Rows {
    let mut rows = Vec::new();
    for (protocol, name) in PROTOCOLS {
        let found = of_vnet(reader, name).and_then(|at| Ok((at, counters(reader, name)?)));
        let Some((at, counters)) = reader.known(found) else {
            continue;
        };
        for (counter, offset) in counters {
            let place = at.wrapping_add(offset / 8 * reader.word());
            let pointer = reader.kernel.pointer_at(name, place);
            let value = pointer.and_then(|pointer| reader.counter(pointer.0));
            let Some(value) = reader.known(value) else {
                // The other counters are in the same array.
                break;
            };
            if value != 0 {
                rows.push(vec![
                    protocol.to_string().into(),
                    counter.into(),
                    value.into(),
                ]);
            }
        }
    }
    Ok(rows)
}

/// The counters of NFS that are not 0.
pub(super) fn nfs(reader: &mut Reader<'_>) -> Rows {
    let at = match of_vnet(reader, "nfsstatsv1_p") {
        Ok(place) => reader.kernel.pointer_at("nfsstatsv1_p", place)?,
        Err(_) => reader.kernel.address("nfsstatsv1")?,
    };
    let mut rows = Vec::new();
    for (counter, offset) in counters(reader, "nfsstatsv1")? {
        // `struct bintime`
        if ["srvduration", "busyfrom", "busytime"]
            .iter()
            .any(|time| counter.starts_with(time))
        {
            continue;
        }
        let value = reader
            .kernel
            .uint_at("nfsstatsv1", at.wrapping_add(offset), 8);
        let Some(value) = reader.known(value) else {
            break;
        };
        if value != 0 {
            rows.push(vec![counter.into(), value.into()]);
        }
    }
    Ok(rows)
}

/// A socket of any protocol.
struct Socket {
    protocol: String,
    /// The address of the protocol's control block.
    pcb: VirtAddr,
    socket: Option<SocketState>,
    local: Cell,
    foreign: Cell,
    state: Cell,
}

/// What `struct socket` contains.
enum SocketState {
    /// Bytes in the receive buffer and in the send buffer.
    Data(u64, u64),
    /// Complete and incomplete connections, and the limit.
    Listens([u64; 3]),
}

fn socket(reader: &Reader<'_>, at: u64) -> Result<Option<SocketState>, KernelError> {
    if at == 0 {
        return Ok(None);
    }
    let field = |member| reader.field(VirtAddr(at), "socket", member);
    if field("so_options")? & SO_ACCEPTCONN != 0 {
        let lengths = [
            field("sol_qlen")?,
            field("sol_incqlen")?,
            field("sol_qlimit")?,
        ];
        return Ok(Some(SocketState::Listens(lengths)));
    }
    Ok(Some(SocketState::Data(
        field("so_rcv.sb_ccc")?,
        field("so_snd.sb_ccc")?,
    )))
}

/// The sockets of all protocols.
fn all(reader: &mut Reader<'_>) -> Vec<Socket> {
    let mut found = Vec::new();
    for (protocol, name) in [
        ("tcp", "tcbinfo"),
        ("udp", "udbinfo"),
        ("udpl", "ulitecbinfo"),
        ("raw", "ripcbinfo"),
    ] {
        let list = pcbs(reader, name);
        for at in reader.known(list).unwrap_or_default() {
            let one = internet(reader, protocol, at);
            found.extend(reader.known(one));
        }
    }
    for (protocol, name) in [
        ("stream", "unp_shead"),
        ("dgram", "unp_dhead"),
        ("seqpac", "unp_sphead"),
    ] {
        let link = reader.member("unpcb", "unp_link");
        let head = link.and_then(|link| Ok((link.offset, reader.kernel.address(name)?)));
        let Some((link, head)) = reader.known(head) else {
            continue;
        };
        for at in reader.list(name, head, link) {
            let one = local(reader, protocol, at);
            found.extend(reader.known(one));
        }
    }
    found.truncate(LIST);
    found
}

/// The control blocks of an internet protocol.
fn pcbs(reader: &mut Reader<'_>, name: &str) -> Result<Vec<VirtAddr>, KernelError> {
    let info = of_vnet(reader, name)?;
    let mut head = reader.place(info, "inpcbinfo", "ipi_listhead")?;
    let link = reader.member("inpcb", "inp_list")?.offset;
    let first = reader.kernel.pointer_at(name, head)?;
    // Up to 13, `ipi_listhead` is a pointer to the head. The first element points at the head.
    let back = first.wrapping_add(link + reader.word());
    if first != VirtAddr(0) && reader.kernel.pointer_at(name, back).ok() != Some(head) {
        head = first;
    }
    Ok(reader.list(name, head, link))
}

fn internet(reader: &Reader<'_>, protocol: &str, at: VirtAddr) -> Result<Socket, KernelError> {
    let versions = reader.field(at, "inpcb", "inp_vflag")?;
    let family = match (versions & INP_IPV4 != 0, versions & INP_IPV6 != 0) {
        (true, true) => "46",
        (true, false) => "4",
        (false, true) => "6",
        (false, false) => "",
    };
    let is_v6 = versions & INP_IPV4 == 0;
    let end = |port: &str, address: &str| -> Result<Cell, KernelError> {
        let place = |member| reader.place(at, "inpcb", &format!("inp_inc.inc_ie.{member}"));
        // The kernel stores it in network byte order.
        let mut bytes = [0; 2];
        reader.kernel.bytes_at(port, place(port)?, &mut bytes)?;
        let port = u16::from_be_bytes(bytes);
        let mut bytes = [0; 16];
        reader
            .kernel
            .bytes_at(address, place(address)?, &mut bytes)?;
        let [.., a, b, c, d] = bytes;
        let address = match (is_v6, bytes, [a, b, c, d]) {
            (true, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], _) => "*".to_string(),
            (true, _, _) => Ipv6Addr::from(bytes).to_string(),
            (false, _, [0, 0, 0, 0]) => "*".to_string(),
            (false, _, _) => Ipv4Addr::new(a, b, c, d).to_string(),
        };
        Ok(match port {
            0 => format!("{address}.*"),
            port => format!("{address}.{port}"),
        }
        .into())
    };
    let state = match protocol {
        "tcp" => tcp_state(reader, at)?,
        _ => Cell::Unknown,
    };
    Ok(Socket {
        protocol: format!("{protocol}{family}"),
        pcb: at,
        socket: socket(reader, reader.field(at, "inpcb", "inp_socket")?)?,
        local: end("ie_lport", "ie_dependladdr")?,
        foreign: end("ie_fport", "ie_dependfaddr")?,
        state,
    })
}

/// The state of a connection. Since 14, the `struct tcpcb` begins with the `struct inpcb`.
fn tcp_state(reader: &Reader<'_>, at: VirtAddr) -> Result<Cell, KernelError> {
    let tcpcb = match reader.member("tcpcb", "t_inpcb") {
        Ok(member) if member.size > reader.word() => VirtAddr(at.0.wrapping_sub(member.offset)),
        _ => VirtAddr(reader.field(at, "inpcb", "inp_ppcb")?),
    };
    if tcpcb == VirtAddr(0) {
        return Ok(Cell::Unknown);
    }
    let state = reader.field(tcpcb, "tcpcb", "t_state")?;
    let name = usize::try_from(state).ok().and_then(|i| TCP_STATES.get(i));
    Ok(name.map_or(Cell::Number(state), |name| name.to_string().into()))
}

/// A socket of the local domain.
fn local(reader: &Reader<'_>, protocol: &str, at: VirtAddr) -> Result<Socket, KernelError> {
    let field = |member| reader.field(at, "unpcb", member);
    let path = match field("unp_addr")? {
        0 => Cell::Unknown,
        address => {
            let path = VirtAddr(address).wrapping_add(SUN_PATH);
            let len = reader.kernel.uint_at("sun_len", VirtAddr(address), 1)?;
            let len = len.saturating_sub(SUN_PATH);
            reader.text(path, len as usize).into()
        }
    };
    let socket = socket(reader, field("unp_socket")?)?;
    let connected = field("unp_conn")?;
    let state = match socket {
        Some(SocketState::Listens(_)) => "LISTEN".to_string().into(),
        _ if connected != 0 => "CONNECTED".to_string().into(),
        _ => Cell::Unknown,
    };
    Ok(Socket {
        protocol: protocol.into(),
        pcb: at,
        socket,
        local: path,
        foreign: match connected {
            0 => Cell::Unknown,
            at => Cell::Address(at),
        },
        state,
    })
}

/// All sockets.
pub(super) fn sockets(reader: &mut Reader<'_>) -> Rows {
    let rows = all(reader).into_iter().map(|socket| {
        let (received, sent) = match socket.socket {
            Some(SocketState::Data(received, sent)) => (received.into(), sent.into()),
            _ => (Cell::Unknown, Cell::Unknown),
        };
        vec![
            socket.protocol.into(),
            Cell::Address(socket.pcb.0),
            received,
            sent,
            socket.local,
            socket.foreign,
            socket.state,
        ]
    });
    Ok(rows.collect())
}

/// The queues of sockets that listen.
pub(super) fn listening(reader: &mut Reader<'_>) -> Rows {
    let rows = all(reader).into_iter().filter_map(|socket| {
        let Some(SocketState::Listens([complete, incomplete, limit])) = socket.socket else {
            return None;
        };
        Some(vec![
            socket.protocol.into(),
            complete.into(),
            incomplete.into(),
            limit.into(),
            socket.local,
        ])
    });
    Ok(rows.collect())
}
