//! A sample of each note of the libraries, for [`crate::wordings`].

use std::io;

use livecore_kernel::NotLoaded;
use livecore_livedump::publish::Notice;
use livecore_livedump::take::{Left, Note};
use livecore_minidump::{ElfMachine, Error as MinidumpError, PhysAddr, ReadError, VirtAddr};
use livecore_serve::{Greeting, Problem};

/// A system error whose text is the same on all systems.
pub(crate) fn system(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, "SYSTEM-ERROR")
}

pub(crate) fn denied() -> io::Error {
    system(io::ErrorKind::PermissionDenied)
}

pub(crate) fn hole() -> ReadError {
    ReadError::Hole {
        at: PhysAddr(0x1000),
    }
}

pub(crate) fn notes() -> Vec<Note> {
    let left = [
        Left::Zero,
        Left::PagingOff,
        Left::NoTables,
        Left::MmuOff,
        Left::Outside,
    ];
    let at = VirtAddr(0xffff_ffff_8100_0000);
    let mut notes = vec![
        Note::GuestRuns,
        Note::Paused { seconds: 0.25 },
        Note::PausedToCompare {
            seconds: 0.25,
            compared: 1000,
            changed: 20,
            new: 3,
        },
        Note::PausedByQemu { seconds: 0.25 },
        Note::KernelDumps,
        Note::NotCompared {
            why: "the kernel file has no symbol vm_page_dump".into(),
        },
        Note::UnknownRegisters { cpus: vec![0, 1] },
        Note::NoRegisters {
            why: "unknown layout of struct pcb".into(),
        },
        Note::RegistersNotAdded {
            cpu: 1,
            why: "no thread runs on it".into(),
        },
        Note::InDebugger {
            cpu: 1,
            on_entry: true,
        },
        Note::InDebugger {
            cpu: 1,
            on_entry: false,
        },
        Note::StoppedByKernel { cpu: 1 },
        Note::StoppedCpus {
            why: hole().to_string(),
        },
        Note::TablesOutside { count: 2 },
        Note::VmPagesUnreadable { count: 2 },
        Note::BitmapPagesMissing { count: 2 },
        Note::NoVmPageArray,
        Note::NoVmPhysSegs,
        Note::UnknownVmPage,
        Note::NoMsgbuf,
        Note::MsgbufUnreadable { at },
        Note::MsgbufInvalid {
            at,
            magic: 1,
            size: 0x10000,
        },
        Note::MsgbufMissing,
        Note::NoHostname,
        Note::NoTime,
        Note::Directory(Notice::LeftoverRemoved {
            name: "livecore.tmp.aZ09bY18".into(),
        }),
    ];
    notes.extend(left.map(|why| Note::LeftKernel { cpu: 1, why }));
    notes
}

pub(crate) fn notices() -> Vec<Notice> {
    let may_not_fit = |walked| Notice::MayNotFit {
        path: "/var/crash".into(),
        available: 1024,
        needed: 2048,
        walked,
    };
    vec![
        Notice::NumberSkipped {
            number: 2,
            file: "vmcore.2.zst".into(),
        },
        Notice::NumberOfSavecore {
            number: 2,
            temporary: "livecore.tmp.a7Bc9x".into(),
        },
        Notice::LeftoverRemoved {
            name: "livecore.tmp.aZ09bY18".into(),
        },
        Notice::LinkKept {
            name: "info.last",
            target: "info.4".into(),
        },
        Notice::NotALink {
            name: "livecore.last.zst".into(),
        },
        Notice::LinkFailed {
            doing: "create",
            name: "livecore.last".into(),
            why: denied().to_string(),
        },
        Notice::MinfreeIgnored { why: None },
        Notice::MinfreeIgnored {
            why: Some(denied().to_string()),
        },
        may_not_fit(true),
        may_not_fit(false),
        Notice::NotLocked {
            path: "/var/crash".into(),
            seconds: 10,
        },
    ]
}

pub(crate) fn not_loaded() -> Vec<NotLoaded> {
    vec![
        NotLoaded::Elf(MinidumpError::broken(
            "ELF header",
            16,
            "type 9",
            "a kernel module",
        )),
        NotLoaded::Machine {
            found: ElfMachine(183),
            expected: ElfMachine(62),
        },
        NotLoaded::BuildId {
            found: vec![0x12, 0x34],
            expected: vec![0xab, 0xcd],
        },
        NotLoaded::Contents {
            section: ".text".into(),
            at: VirtAddr(0xffff_ffff_8221_0000),
        },
        NotLoaded::Size {
            found: 0x9000,
            expected: 0x8000,
        },
    ]
}

pub(crate) fn greetings() -> Vec<Greeting> {
    vec![
        Greeting::Panic("page fault".into()),
        Greeting::Version("FreeBSD 14.0-RELEASE #0 GENERIC".into()),
        Greeting::Unread(4096),
        Greeting::ReadOnly,
        Greeting::Help,
    ]
}

pub(crate) fn problems() -> Vec<Problem> {
    let path = || "/boot/modules/zfs.ko".into();
    vec![
        Problem::Threads("the kernel file has no symbol allproc".into()),
        Problem::Modules("the kernel file has no symbol linker_files".into()),
        Problem::TooManyModules,
        Problem::OtherModule {
            path: path(),
            module: "zfs.ko".into(),
            why: Box::new(not_loaded().remove(3)),
        },
        Problem::UnreadableModule {
            path: path(),
            source: denied(),
        },
        Problem::UnsafePath {
            path: path(),
            why: "path is not UTF-8".into(),
        },
        Problem::UnsafeSection {
            path: path(),
            why: "unexpected section name \"a;b\" in a kernel module".into(),
        },
    ]
}
