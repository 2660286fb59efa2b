//! Offsets of the fields of kernel structures, by release.
//!
//! What a kernel exports (`proc_off_*`, `thread_off_*`, `pcb_size`, `kld_off_*`) has the values of
//! a real kernel of that release. The rest is either a published layout (`struct pcb`, `struct
//! msgbuf`, `struct vm_phys_seg`, `struct vm_page`) or a choice of this builder, which `kernel.c`
//! follows, so that the debug information of a compiled kernel agrees.

/// A FreeBSD release that a machine emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// 10.4: as 12.1, with `td_oncpu` of one byte, 64 CPUs (i386: 32), and on i386 a kernel 3 GiB
    /// above its physical addresses.
    R10,
    /// 12.1: minidump version 2, bitmap by frame number, `kernphys` an absolute symbol,
    /// `stoppcbs` an array, `zombproc`.
    R12,
    /// 14.0: minidump version 3, `kernphys` a variable, `stoppcbs` a pointer, `pidhashtbl`.
    R14,
    /// 15.0: as 14.0, with other offsets. On amd64, all are those of a 15.0 kernel.
    R15,
    /// 15.2: as 15.0, with `fork_trampoline_kthread`, and on amd64 with call frame information of
    /// the entry code.
    R152,
}

impl Release {
    /// Before 13: minidumps without `dump_avail`, a bitmap by frame number.
    pub fn is_old(self) -> bool {
        self <= Self::R12
    }

    /// `osreldate`.
    pub fn osreldate(self) -> u32 {
        match self {
            Self::R10 => 1_004_000,
            Self::R12 => 1_201_000,
            Self::R14 => 1_400_097,
            Self::R15 => 1_500_068,
            Self::R152 => 1_502_000,
        }
    }

    /// `osrelease`.
    pub fn osrelease(self) -> &'static str {
        match self {
            Self::R10 => "10.4-RELEASE",
            Self::R12 => "12.1-RELEASE",
            Self::R14 => "14.0-RELEASE",
            Self::R15 => "15.0-RELEASE",
            Self::R152 => "15.2-RELEASE",
        }
    }
}

/// `struct vm_page`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VmPageLayout {
    pub(crate) size: u32,
    pub(crate) phys_addr: u32,
    pub(crate) flags: u32,
    pub(crate) flags_bytes: u32,
    /// PG_NODUMP.
    pub(crate) nodump: u16,
    /// Bits that other pages may have.
    pub(crate) other_flags: u16,
    /// `order` and `ref_count`, of kernels since 13.
    pub(crate) allocation: Option<(u32, u32)>,
}

/// `struct vm_phys_seg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PhysSegLayout {
    pub(crate) size: u32,
    pub(crate) first_page: u32,
    pub(crate) domain: u32,
}

/// `struct proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcLayout {
    pub(crate) size: u32,
    pub(crate) list: u32,
    pub(crate) threads: u32,
    pub(crate) pid: u32,
    /// Absent before 13.
    pub(crate) hash: Option<u32>,
    pub(crate) comm: u32,
    pub(crate) state: u32,
    pub(crate) vmspace: u32,
}

/// `struct thread`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadLayout {
    pub(crate) size: u32,
    pub(crate) proc_: u32,
    pub(crate) plist: u32,
    pub(crate) tid: u32,
    pub(crate) wchan: u32,
    pub(crate) wmesg: u32,
    pub(crate) blocked: u32,
    pub(crate) lockname: u32,
    pub(crate) name: u32,
    pub(crate) inhibitors: u32,
    pub(crate) pcb: u32,
    pub(crate) state: u32,
    pub(crate) kstack: u32,
    pub(crate) kstack_pages: u32,
    /// Bytes of it.
    pub(crate) kstack_pages_bytes: u32,
    pub(crate) lastcpu: u32,
    pub(crate) oncpu: u32,
    /// Bytes of these two.
    pub(crate) cpu_bytes: u32,
    /// Offset of a pcb that is part of the thread. If absent, the pcb is on the stack.
    pub(crate) md_pcb: Option<u32>,
}

/// `struct vmspace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VmspaceLayout {
    pub(crate) size: u32,
    /// Whether entries of `vm_map` begin with `prev` and `next` (10 to 12).
    pub(crate) lists_entries: bool,
    /// `vm_pmap`.
    pub(crate) pmap: u32,
    /// `sizeof(struct pmap)`.
    pub(crate) pmap_size: u32,
    /// `sizeof(struct vm_map_entry)`, if entries are allocated one by one. Otherwise, they are in the
    /// `struct vmspace`.
    pub(crate) entry: Option<u32>,
}

/// `struct prison`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrisonLayout {
    pub(crate) size: u32,
    /// `pr_name`, 256 bytes: "0".
    pub(crate) name: u32,
    /// `pr_path`, 1024 bytes: "/".
    pub(crate) path: u32,
    /// `pr_hostname`, 256 bytes.
    pub(crate) hostname: u32,
}

/// `struct linker_file` as the kernel exports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkerLayout {
    pub(crate) size: u32,
    pub(crate) refs: u32,
    pub(crate) next: u32,
    pub(crate) filename: u32,
    pub(crate) pathname: u32,
    pub(crate) id: u32,
    pub(crate) address: u32,
    pub(crate) length: u32,
}

/// All structures of one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) vm_page: VmPageLayout,
    pub(crate) phys_seg: PhysSegLayout,
    pub(crate) proc_: ProcLayout,
    pub(crate) thread: ThreadLayout,
    pub(crate) vmspace: VmspaceLayout,
    pub(crate) prison: PrisonLayout,
    pub(crate) linker: LinkerLayout,
    /// `VM_PHYSSEG_MAX`.
    pub(crate) physseg_max: u32,
    /// `sizeof(struct pcb)`.
    pub(crate) pcb_size: u32,
    /// `sizeof(struct msgbuf)`.
    pub(crate) msgbuf_size: u32,
    /// `PHYS_AVAIL_COUNT`, elements of `dump_avail`.
    pub(crate) dump_avail: u32,
    /// Bytes of a `long` and of a pointer.
    pub(crate) word: u32,
    /// Bytes of a `vm_paddr_t`.
    pub(crate) paddr: u32,
    /// `MAXCPU`.
    pub(crate) maxcpu: u32,
}

impl Layout {
    /// Returns the structures of an LP64 amd64 kernel.
    pub(crate) fn amd64(release: Release) -> Self {
        let old = release.is_old();
        let ten = release == Release::R10;
        let fifteen = release >= Release::R15;
        let older = Self {
            vm_page: match release {
                Release::R10 | Release::R12 => VmPageLayout {
                    size: 104,
                    phys_addr: 48,
                    flags: 90,
                    flags_bytes: 2,
                    nodump: 0x80,
                    other_flags: 0x0d,
                    allocation: None,
                },
                Release::R14 => VmPageLayout {
                    size: 104,
                    phys_addr: 48,
                    flags: 94,
                    flags_bytes: 1,
                    nodump: 0x10,
                    other_flags: 0x0d,
                    allocation: Some((92, 80)),
                },
                Release::R15 | Release::R152 => VmPageLayout {
                    size: 88,
                    phys_addr: 32,
                    flags: 78,
                    flags_bytes: 1,
                    nodump: 0x10,
                    other_flags: 0x0d,
                    allocation: Some((76, 64)),
                },
            },
            phys_seg: PhysSegLayout {
                size: if old { 40 } else { 48 },
                first_page: 16,
                domain: if old { 24 } else { 32 },
            },
            proc_: ProcLayout {
                size: 0x520,
                list: 0,
                threads: 0x10,
                pid: 0xc4,
                hash: (!old).then_some(0xc8),
                comm: if ten {
                    0x344
                } else if old {
                    0x3e4
                } else {
                    0x3d8
                },
                state: 0xc0,
                vmspace: 0x2f0,
            },
            thread: ThreadLayout {
                size: if old { 0x700 } else { 0x860 },
                proc_: 8,
                plist: 0x10,
                tid: if old { 0x98 } else { 0xa0 },
                wchan: 0x148,
                wmesg: 0x150,
                blocked: 0x168,
                lockname: 0x170,
                name: if old { 0x294 } else { 0x2bc },
                inhibitors: 0x118,
                pcb: if old { 0x430 } else { 0x438 },
                state: 0x448,
                kstack: 0x460,
                kstack_pages: 0x470,
                kstack_pages_bytes: 4,
                lastcpu: if ten { 0x100 } else { 0x158 },
                oncpu: if ten {
                    0x101
                } else if old {
                    0x15c
                } else {
                    0x6bc
                },
                cpu_bytes: if ten { 1 } else { 4 },
                md_pcb: (!old).then_some(0x6c0),
            },
            vmspace: VmspaceLayout {
                size: 0x300,
                lists_entries: old,
                pmap: 0x150,
                pmap_size: 0x180,
                entry: None,
            },
            prison: PrisonLayout {
                size: 0x900,
                name: 0x158,
                path: 0x258,
                hostname: 0x658,
            },
            linker: LinkerLayout {
                size: 0xa0,
                refs: 8,
                next: 24,
                filename: 40,
                pathname: 48,
                id: 56,
                address: 64,
                length: 72,
            },
            physseg_max: 63,
            pcb_size: 320,
            msgbuf_size: 72,
            dump_avail: if old { 126 } else { 128 },
            word: 8,
            paddr: 8,
            maxcpu: if ten { 64 } else { 256 },
        };
        match fifteen {
            true => older.of_15(),
            false => older,
        }
    }

    /// Returns the structures with the offsets of amd64 15.0 (`__FreeBSD_version` 1500068), by the
    /// debug information of such a kernel.
    fn of_15(self) -> Self {
        Self {
            proc_: ProcLayout {
                size: 0x558,
                comm: 0x3e0,
                vmspace: 0x208,
                ..self.proc_
            },
            thread: ThreadLayout {
                size: 0x720,
                wchan: 0x128,
                wmesg: 0x130,
                blocked: 0x158,
                lockname: 0x160,
                name: 0x2dc,
                inhibitors: 0x110,
                pcb: 0x480,
                state: 0x488,
                kstack: 0x4f0,
                kstack_pages: 0x4f8,
                kstack_pages_bytes: 2,
                lastcpu: 0x6f8,
                oncpu: 0x6fc,
                md_pcb: Some(0x550),
                ..self.thread
            },
            vmspace: VmspaceLayout {
                size: 0x248,
                pmap: 0x110,
                pmap_size: 0x138,
                entry: Some(0x60),
                ..self.vmspace
            },
            prison: PrisonLayout {
                size: 0x880,
                name: 0x120,
                path: 0x220,
                hostname: 0x620,
            },
            linker: LinkerLayout {
                size: 0xc8,
                ..self.linker
            },
            ..self
        }
    }

    /// Returns the structures of a 64-bit kernel of 14 or later other than amd64's: a thread's pcb
    /// is on its stack.
    pub(crate) fn pcb_on_stack(release: Release) -> Self {
        let amd64 = Self::amd64(release);
        Self {
            physseg_max: 64,
            dump_avail: 130,
            thread: ThreadLayout {
                md_pcb: None,
                ..amd64.thread
            },
            ..amd64
        }
    }
}
