//! The offsets of members of processes and threads, exported by the kernel or from type
//! information.

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::structure::Member;

/// The maximum size of a kernel structure.
const LARGEST: u64 = 1 << 20;

/// The exported offsets. All are required.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offsets {
    pub(crate) pid: u64,
    pub(crate) comm: u64,
    pub(crate) list: u64,
    pub(crate) threads: u64,
    pub(crate) tid: u64,
    pub(crate) name: u64,
    pub(crate) oncpu: u64,
    pub(crate) pcb: u64,
    pub(crate) plist: u64,
    pub(crate) pcb_size: u64,
}

impl Offsets {
    pub(crate) fn read(kernel: &Kernel<'_>) -> Result<Self, KernelError> {
        let get = |name: &str| {
            let found = kernel.variable(name, 4)?;
            if found >= LARGEST {
                return Err(KernelError::Implausible {
                    what: name.into(),
                    found,
                    expected: "offset in a kernel structure",
                });
            }
            Ok(found)
        };
        Ok(Self {
            pid: get("proc_off_p_pid")?,
            comm: get("proc_off_p_comm")?,
            list: get("proc_off_p_list")?,
            threads: get("proc_off_p_threads")?,
            tid: get("thread_off_td_tid")?,
            name: get("thread_off_td_name")?,
            oncpu: get("thread_off_td_oncpu")?,
            pcb: get("thread_off_td_pcb")?,
            plist: get("thread_off_td_plist")?,
            pcb_size: get("pcb_size")?,
        })
    }
}

/// The members without an exported offset. All are optional.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Typed {
    pub(crate) parent: Option<Member>,
    pub(crate) process_state: Option<Member>,
    pub(crate) state: Option<Member>,
    pub(crate) inhibitors: Option<Member>,
    pub(crate) wait: Option<Member>,
    pub(crate) lock: Option<Member>,
    pub(crate) kstack: Option<Member>,
    pub(crate) kstack_pages: Option<Member>,
}

impl Typed {
    pub(crate) fn read(kernel: &Kernel<'_>) -> Self {
        let member = |structure: &str, member: &str| {
            kernel
                .types()?
                .member(structure, member)
                .filter(|m| m.offset < LARGEST)
        };
        Self {
            parent: member("proc", "p_pptr"),
            process_state: member("proc", "p_state"),
            state: member("thread", "td_state"),
            inhibitors: member("thread", "td_inhibitors"),
            wait: member("thread", "td_wmesg"),
            lock: member("thread", "td_lockname"),
            kstack: member("thread", "td_kstack"),
            kstack_pages: member("thread", "td_kstack_pages"),
        }
    }
}
