//! The wording and the id of every error, warning and note of the libraries.
//!
//! `testdata/golden/errors.txt` has all of them, to be read in one place.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::{Debug, Display, Write as _};
use std::fs;
use std::io;
use std::time::Duration;

use livecore::Id;
use livecore_compress::Error as CompressError;
use livecore_kernel::locate::LocateError;
use livecore_kernel::{KernelError, LocationError, PairError, Rejected};
use livecore_livedump::gdb::GdbError;
use livecore_livedump::mem4::MemError;
use livecore_livedump::publish::{Planted, PublishError, WriteError};
use livecore_livedump::qmp::QmpError;
use livecore_livedump::take::TakeError;
use livecore_minidump::{
    ElfMachine, Error as MinidumpError, PhysAddr, ReadError, Shortness, Unproven, VirtAddr, Warning,
};
use livecore_serve::ServeError;
use livecore_synth::{Description, Error as SynthError};

use crate::harness::{golden, testdata};
use crate::note_samples::{denied, greetings, hole, not_loaded, notes, notices, problems, system};

/// The wordings of enums, and whether all variants of an enum have one.
#[derive(Default)]
struct Wordings(String);

impl Wordings {
    /// Adds `values` of the enum `name`, which `file` declares.
    fn add<T: Debug + Display>(
        &mut self,
        (file, name): (&str, &str),
        values: &[T],
        id: impl Fn(&T) -> Id,
    ) {
        let (krate, _) = file.split_once("/src").unwrap();
        writeln!(self.0, "{krate}: {name}").unwrap();
        let mut left = variants(file, name);
        for value in values {
            let debug = format!("{value:?}");
            let variant = debug.split([' ', '(']).next().unwrap();
            left.remove(variant);
            let id = id(value);
            // The id without a meaning is for variants that have none.
            assert!(
                ![Id::Failed, Id::Warning, Id::Note].contains(&id),
                "{debug}"
            );
            let id = format!("[{}]", id.name());
            let text = value.to_string().replace('\n', "\\n");
            writeln!(self.0, "  {id:25} {text}").unwrap();
        }
        assert!(left.is_empty(), "{name}: no sample of {left:?}");
    }

    fn errors<T: Error + 'static>(&mut self, of: (&str, &str), values: &[T]) {
        self.add(of, values, |error| {
            Id::of_error(error).unwrap_or_else(|| panic!("{error:?} has no id"))
        });
    }
}

/// The variants of an enum by its source. The compiler cannot list those of a `non_exhaustive` enum
/// that have no sample.
fn variants(file: &str, name: &str) -> BTreeSet<String> {
    let source = fs::read_to_string(testdata().join("..").join(file)).unwrap();
    let (_, body) = source
        .split_once(&format!("pub enum {name} {{\n"))
        .unwrap_or_else(|| panic!("{file}: no {name}"));
    let (body, _) = body.split_once("\n}").unwrap();
    let variants: BTreeSet<_> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .filter_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()).next())
        .map(str::to_owned)
        .collect();
    assert!(!variants.is_empty(), "{file}");
    variants
}

fn absent() -> io::Error {
    system(io::ErrorKind::NotFound)
}

fn compress() -> Vec<CompressError> {
    vec![
        CompressError::Read(denied()),
        CompressError::Write(denied()),
        CompressError::Broken {
            region: "zstd frame 3".into(),
            offset: 0x2000,
            found: "checksum 0x1".into(),
            expected: "0x2".into(),
        },
        CompressError::Limit {
            what: "seek table".into(),
            needed: 4096,
            limit: 1024,
        },
        CompressError::Memory {
            what: "zstd window".into(),
            needed: 4096,
            limit: 1024,
        },
        CompressError::Options("unknown level 99".into()),
        CompressError::Cancelled,
    ]
}

fn minidump() -> Vec<MinidumpError> {
    vec![
        MinidumpError::Io {
            what: "/var/crash/vmcore.0".into(),
            source: denied(),
        },
        MinidumpError::broken("dump_avail entry 3", 0x2000, "0x3000", "0x2000 or less"),
        MinidumpError::NotADump {
            found: "a gzip stream".into(),
        },
        MinidumpError::Unsupported {
            what: "minidump version 9".into(),
        },
        MinidumpError::Encrypted { cipher: "ChaCha20" },
        MinidumpError::WrongKey {
            why: "the key does not decrypt the dump's one-time key".into(),
        },
        MinidumpError::KeyFile {
            what: "expected an RSA private key in PEM, of at most 8192 bits".into(),
        },
        MinidumpError::NoSymbol("msgbufp"),
        MinidumpError::Options("unknown level 99".into()),
        MinidumpError::Cancelled,
    ]
}

fn read() -> Vec<ReadError> {
    vec![
        ReadError::NotMapped {
            at: VirtAddr(0xffff_ffff_8000_0000),
            why: "PDE is 0",
        },
        hole(),
        ReadError::Excluded {
            at: PhysAddr(0x1000),
            class: "free".into(),
        },
        ReadError::BeyondEnd {
            at: PhysAddr(0x1000),
            offset: 0x9000,
            end: 0x8000,
        },
        ReadError::Tables {
            at: VirtAddr(0xffff_ffff_8000_0000),
            source: denied(),
        },
        ReadError::Io {
            at: PhysAddr(0x1000),
            source: denied(),
        },
    ]
}

fn warnings() -> Vec<Warning> {
    let short = |pages| Shortness {
        expected: 0x9000,
        actual: 0x8000,
        pages,
    };
    vec![
        Warning::Short(short(1)),
        Warning::Interrupted {
            why: "zstd frame 3 at offset 0x2000: found the end, expected 0x100 bytes".into(),
        },
        Warning::ZeroTail(short(2)),
        Warning::FilledTail { source_len: None },
        Warning::FilledTail {
            source_len: Some(0x8000),
        },
        Warning::CutSegments {
            expected: 0x9000,
            actual: 0x8000,
        },
        Warning::Overlap {
            at: PhysAddr(0x1000),
            used: 0x2000,
            other: 0x3000,
        },
        Warning::Trailing {
            offset: 0x9000,
            len: 512,
        },
        Warning::StrayBits { count: 3 },
        Warning::Cleared,
        Warning::Parity,
        Warning::Architecture {
            header: "arm64".into(),
            payload: "amd64",
        },
        Warning::Field {
            structure: "minidump header",
            name: "pmapsize",
            offset: 0x18,
            found: "1".into(),
            expected: "a multiple of 4096".into(),
        },
        Warning::Info {
            why: "no line `Architecture`".into(),
            contradicts: false,
        },
        Warning::Carried {
            why: "the note is 8 bytes".into(),
        },
        Warning::Unproven(Unproven {
            pages: 2,
            section_bytes: 512,
        }),
        Warning::Seal {
            why: "checksum 0x1, expected 0x2".into(),
        },
    ]
}

fn kernel() -> Vec<KernelError> {
    vec![
        KernelError::NoSymbol("allproc".into()),
        KernelError::NoMember("thread.td_blocked".into()),
        KernelError::Unreadable {
            what: "allproc".into(),
            at: VirtAddr(0xffff_ffff_8100_0000),
            source: hole(),
        },
        KernelError::Implausible {
            what: "mp_ncpus".into(),
            found: 0x1000,
            expected: "1 to 1024",
        },
        KernelError::UnknownMachine(ElfMachine(1)),
    ]
}

fn locate() -> Vec<LocateError> {
    vec![
        LocateError::NoSymbol {
            name: "kernbase".into(),
        },
        LocateError::Unsupported {
            what: "a kernel for ELF machine 1".into(),
        },
        LocateError::NoKernel {
            why: "no page has its version string".into(),
            misplaced: false,
        },
        LocateError::NoKernel {
            why: "its page tables do not map it".into(),
            misplaced: true,
        },
        LocateError::Contradiction {
            what: "dump_avail",
            found: "0x3000".into(),
            expected: "0x2000 or less".into(),
        },
        LocateError::Memory {
            what: "dump_avail".into(),
            source: hole(),
        },
    ]
}

fn location() -> Vec<LocationError> {
    vec![
        LocationError::Neither,
        LocationError::NotANumber("12q".into()),
        LocationError::TooLarge("0x10000000000000000".into()),
        LocationError::NoSymbol("nosuchsymbol".into()),
        LocationError::NotAnAddress {
            name: "kernbase".into(),
            value: 0x20_0000,
        },
        LocationError::Beyond {
            name: "hz".into(),
            offset: u64::MAX,
        },
    ]
}

fn pair() -> Vec<PairError> {
    vec![
        PairError::Open {
            path: "/boot/kernel/kernel".into(),
            source: absent(),
        },
        PairError::Format(MinidumpError::NoSymbol("version")),
        PairError::Locate(LocateError::NoSymbol {
            name: "kernbase".into(),
        }),
        PairError::AnotherKernel {
            what: "build-id",
            kernel: "0102".into(),
            dump: "0304".into(),
        },
        PairError::NotFound {
            rejected: Vec::new(),
        },
        PairError::NotFound {
            rejected: vec![Rejected {
                path: "/boot/kernel/kernel".into(),
                why: "its build-id is 0102".into(),
            }],
        },
        PairError::Kernel(KernelError::NoSymbol("allproc".into())),
    ]
}

fn take() -> Vec<TakeError> {
    vec![
        TakeError::Locate(LocateError::NoSymbol {
            name: "dump_avail".into(),
        }),
        TakeError::Unsupported {
            what: "minidump version 3 of an i386 kernel".into(),
        },
        TakeError::NoCpu {
            number: 7,
            has: "0, 1".into(),
        },
        TakeError::Contradiction {
            what: "vm_page_dump_size",
            found: "0x10".into(),
            expected: "0x20 or more".into(),
        },
        TakeError::Memory {
            what: "page table".into(),
            source: hole(),
        },
        TakeError::Mem(MemError::KernelCannotLiveDump),
        TakeError::Minidump(MinidumpError::NoSymbol("msgbufp")),
        TakeError::RunningCpu,
        TakeError::NotStarted,
        TakeError::MustPause {
            why: "memory backend ram0 is not shared".into(),
        },
        TakeError::Qmp(QmpError::Gone {
            during: "cont".into(),
        }),
        TakeError::Gdb(GdbError::Gone {
            during: "m1000,800".into(),
        }),
        TakeError::Publish(PublishError::Exists {
            path: "/var/crash/out".into(),
        }),
        TakeError::Cancelled,
    ]
}

fn publish() -> Vec<PublishError> {
    let full = |kind| PublishError::NoSpace {
        path: "-".into(),
        source: system(kind),
    };
    let planted = |kind| PublishError::Untrusted {
        path: "/tmp/out".into(),
        kind,
    };
    vec![
        PublishError::Directory {
            path: "/var/crash".into(),
            source: absent(),
        },
        PublishError::Exists {
            path: "/var/crash/out".into(),
        },
        PublishError::NotEnoughSpace {
            path: "/var/crash".into(),
            needed: 2048,
            available: 1024,
            minfree: 512,
        },
        full(io::ErrorKind::StorageFull),
        full(io::ErrorKind::QuotaExceeded),
        full(io::ErrorKind::FileTooLarge),
        PublishError::Complete {
            path: "/var/crash/livecore.0".into(),
            source: Box::new(PublishError::from_io("sync", "/var/crash", denied())),
        },
        planted(Planted::Link),
        planted(Planted::Pipe),
        planted(Planted::Device),
        PublishError::NumbersTaken {
            path: "/var/crash".into(),
            last: 9,
        },
        PublishError::ReaderGone { path: "-".into() },
        PublishError::from_io("create", "/var/crash/out", denied()),
    ]
}

fn qmp() -> Vec<QmpError> {
    vec![
        QmpError::Connect {
            path: "/run/qmp".into(),
            source: absent(),
        },
        QmpError::Io {
            doing: "read from QEMU",
            source: denied(),
        },
        QmpError::Gone {
            during: "cont".into(),
        },
        QmpError::Timeout {
            command: "query-status".into(),
            waited: Duration::from_millis(2500),
        },
        QmpError::Refused {
            command: "dump-guest-memory".into(),
            why: "there is a migration in process".into(),
        },
        QmpError::Protocol {
            region: "query-status".into(),
            found: "no `status`".into(),
            expected: "a string",
        },
        QmpError::Cancelled,
    ]
}

fn gdb() -> Vec<GdbError> {
    vec![
        GdbError::Connect {
            address: "localhost:1234".into(),
            source: absent(),
        },
        GdbError::Io {
            doing: "read from the gdb stub",
            source: denied(),
        },
        GdbError::Gone { during: "g".into() },
        GdbError::Timeout {
            packet: "qfThreadInfo".into(),
            waited: Duration::from_millis(2500),
        },
        GdbError::Refused {
            packet: "Hg2".into(),
            why: "E16".into(),
        },
        GdbError::Protocol {
            packet: "m1000,8".into(),
            found: "\"zz\"".into(),
            expected: "1 to 8 bytes".into(),
        },
        GdbError::Cancelled,
    ]
}

fn mem4() -> Vec<MemError> {
    let (base, len) = (0xf000_0000, 0x100_0000);
    vec![
        MemError::NotPermitted {
            why: "kern.securelevel is above 0",
        },
        MemError::BadDescriptor { fd: 5 },
        MemError::NotOpenedFor { what: "writing" },
        MemError::NotAFile { fd: 5 },
        MemError::BadFlags { flags: 1 },
        MemError::BadCompression { compression: 3 },
        MemError::AnotherDumpRunning,
        MemError::KernelCannotLiveDump,
        MemError::Cancelled,
        MemError::CompressorFailed,
        MemError::NoSpace(system(io::ErrorKind::StorageFull)),
        MemError::NoDevice { jailed: false },
        MemError::NoDevice { jailed: true },
        MemError::NoExtract,
        MemError::BadAddress {
            at: 0x1000,
            why: "no memory at this address",
        },
        MemError::NoRangeDriver,
        MemError::NoRanges,
        MemError::BadRange {
            base: PhysAddr(base),
            len,
            why: "it overlaps an active range of another memory type",
        },
        MemError::RangeBusy {
            base: PhysAddr(base),
            len,
        },
        MemError::NoFreeRange,
        MemError::NoSuchRange {
            base: PhysAddr(base),
            len,
        },
        MemError::UnknownKind {
            base: PhysAddr(base),
            len,
        },
        MemError::FixedRange {
            base: PhysAddr(base),
            len,
        },
        MemError::BadRangeOperation { operation: 9 },
        MemError::NoSuchProcess { pid: 99999 },
        MemError::NeedsFreeBsd,
        MemError::NoKernelFile {
            what: "virtual addresses",
        },
        MemError::Unchangeable {
            why: "only a directory written by `synth --out` keeps memory ranges",
        },
        MemError::Io {
            doing: "access memory",
            source: denied(),
        },
    ]
}

fn synth() -> Vec<SynthError> {
    vec![
        Description::parse("nosuchkey = 1").unwrap_err(),
        SynthError::Value {
            key: "memory.size",
            found: "1".into(),
            expected: "a multiple of 4096".into(),
        },
        SynthError::NoSpace {
            what: "page tables",
            need: 0x2000,
            left: 0x1000,
        },
        SynthError::Compiler {
            compiler: "cc".into(),
            why: "unknown option -mno-red-zone".into(),
        },
        SynthError::Kernel("no symbol `hz`".into()),
        SynthError::Io {
            path: "out/kernel".into(),
            source: denied(),
        },
    ]
}

#[test]
fn every_error_warning_and_note_has_an_id_and_the_recorded_wording() {
    let mut all = Wordings::default();
    all.errors(("compress/src/error.rs", "Error"), &compress());
    all.errors(("minidump/src/error.rs", "Error"), &minidump());
    all.errors(("minidump/src/memory.rs", "ReadError"), &read());
    let of = ("minidump/src/dump/warning.rs", "Warning");
    all.add(of, &warnings(), Id::of_warning);
    all.errors(("minidump/kernel/src/error.rs", "KernelError"), &kernel());
    let of = ("minidump/kernel/src/locate/error.rs", "LocateError");
    all.errors(of, &locate());
    let of = ("minidump/kernel/src/location.rs", "LocationError");
    all.errors(of, &location());
    all.errors(("minidump/kernel/src/pair_error.rs", "PairError"), &pair());
    let of = ("minidump/kernel/src/module.rs", "NotLoaded");
    all.errors(of, &not_loaded());
    all.errors(("livedump/src/take/error.rs", "TakeError"), &take());
    let of = ("livedump/src/publish/error.rs", "PublishError");
    all.errors(of, &publish());
    let written = [
        WriteError::Publish(PublishError::ReaderGone { path: "-".into() }),
        WriteError::Minidump(MinidumpError::Cancelled),
    ];
    all.errors(("livedump/src/publish/output.rs", "WriteError"), &written);
    all.errors(("livedump/src/qmp/error.rs", "QmpError"), &qmp());
    all.errors(("livedump/src/gdb/error.rs", "GdbError"), &gdb());
    all.errors(("livedump/src/mem4/error.rs", "MemError"), &mem4());
    let served = ServeError::Machine {
        machine: 1,
        kernel: "kernel".into(),
    };
    all.errors(("cli/serve/src/error.rs", "ServeError"), &[served]);
    all.errors(("livedump/synth/src/error.rs", "Error"), &synth());
    all.add(("livedump/src/take/note.rs", "Note"), &notes(), Id::of_note);
    let of = ("livedump/src/publish/notice.rs", "Notice");
    all.add(of, &notices(), Id::of_notice);
    let of = ("cli/serve/src/problem.rs", "Problem");
    all.add(of, &problems(), Id::of_problem);
    let of = ("cli/serve/src/greeting.rs", "Greeting");
    all.add(of, &greetings(), Id::of_greeting);
    golden("errors.txt", &all.0);
}
