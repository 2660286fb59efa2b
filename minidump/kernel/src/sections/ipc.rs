//! Message queues, shared memory and semaphores of System V.
//!
//! FreeBSD `sys/sys/{ipc,msg,shm,sem}.h`.

use livecore_defs::statistics::{IPC_LIMIT, SEM_ALLOC, SHMSEG_ALLOCATED};
use livecore_minidump::VirtAddr;

use crate::error::KernelError;

use super::Cell;
use super::reader::Reader;

type Rows = Result<Vec<Vec<Cell>>, KernelError>;

/// A kind of object: an array of structures.
struct Facility {
    name: &'static str,
    /// The pointer to the array.
    array: &'static str,
    structure: &'static str,
    /// The member of type `struct ipc_perm`.
    permission: &'static str,
    /// The variable with the number of elements, and its member.
    count: (&'static str, &'static str),
    /// The member with the size in bytes, and the one with the number of parts.
    bytes: Option<&'static str>,
    parts: &'static str,
}

const FACILITIES: [Facility; 3] = [
    Facility {
        name: "message queue",
        array: "msqids",
        structure: "msqid_kernel",
        permission: "u.msg_perm",
        count: ("msginfo", "msgmni"),
        bytes: Some("u.msg_cbytes"),
        parts: "u.msg_qnum",
    },
    Facility {
        name: "shared memory",
        array: "shmsegs",
        structure: "shmid_kernel",
        permission: "u.shm_perm",
        count: ("shmalloced", ""),
        bytes: Some("u.shm_segsz"),
        parts: "u.shm_nattch",
    },
    Facility {
        name: "semaphores",
        array: "sema",
        structure: "semid_kernel",
        permission: "u.sem_perm",
        count: ("seminfo", "semmni"),
        bytes: None,
        parts: "u.sem_nsems",
    },
];

/// The objects that exist.
pub(super) fn table(reader: &mut Reader<'_>) -> Rows {
    let mut rows = Vec::new();
    for facility in &FACILITIES {
        let found = objects(reader, facility);
        rows.extend(reader.known(found).into_iter().flatten());
    }
    Ok(rows)
}

fn objects(reader: &mut Reader<'_>, facility: &Facility) -> Rows {
    let array = reader.kernel.pointer(facility.array)?;
    let count = match facility.count {
        (variable, "") => reader.kernel.variable(variable, 4)?,
        (variable, member) => {
            let at = reader.kernel.address(variable)?;
            reader.field(at, variable, member)?
        }
    };
    if array == VirtAddr(0) {
        return Ok(Vec::new());
    }
    if count > IPC_LIMIT {
        return Err(KernelError::Implausible {
            what: facility.count.0.into(),
            found: count,
            expected: "at most 65536 objects",
        });
    }
    let size = reader.size_of(facility.structure)?;
    let mut rows = Vec::new();
    for i in 0..count {
        let at = array.wrapping_add(i * size);
        let row = object(reader, facility, at, i);
        let Some(row) = reader.known(row) else {
            break;
        };
        rows.extend(row);
    }
    Ok(rows)
}

/// Returns the row of an object, or `None` if it is not in use.
fn object(
    reader: &Reader<'_>,
    facility: &Facility,
    at: VirtAddr,
    index: u64,
) -> Result<Option<Vec<Cell>>, KernelError> {
    let field = |member: &str| reader.field(at, facility.structure, member);
    let permission = |member| field(&format!("{}.{member}", facility.permission));
    let mode = permission("mode")?;
    let in_use = match facility.name {
        "message queue" => field("u.msg_qbytes")? != 0,
        "shared memory" => mode & SHMSEG_ALLOCATED != 0,
        _ => mode & SEM_ALLOC != 0,
    };
    if !in_use {
        return Ok(None);
    }
    let id = permission("seq")? << 16 | index;
    // `key_t` is a signed `long`.
    let key = permission("key")?;
    let bytes = facility.bytes.map(field).transpose()?;
    Ok(Some(vec![
        facility.name.to_string().into(),
        id.into(),
        Cell::Address(key),
        format!("{:03o}", mode & 0o777).into(),
        permission("uid")?.into(),
        bytes.into(),
        field(facility.parts)?.into(),
    ]))
}
