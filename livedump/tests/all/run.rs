//! Tests of complete runs.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use livecore_compress::{Codec, Encoding, Progress, ReadAt};
use livecore_livedump::image;
use livecore_livedump::publish::{Destination, Output, PublishError};
use livecore_livedump::take::{
    Done, Note, Observer, PlanOptions, RunOptions, Source, Stage, TakeError, plan, run,
};
use livecore_minidump::convert::Target;
use livecore_minidump::{Container, Dump, KernelElf, OpenOptions};
use livecore_minidump::{PhysAddr, PhysMemory};
use livecore_synth::{Machine, write_out};

fn tiny() -> Machine {
    let text = include_str!("../../../testdata/machines/tiny.toml");
    Machine::parse(text).unwrap()
}

fn elf(machine: &Machine) -> Arc<KernelElf> {
    Arc::new(KernelElf::from_bytes(machine.kernel().to_vec()).unwrap())
}

fn options(container: Container, codec: Codec) -> RunOptions {
    RunOptions::new(Target {
        container,
        encoding: Encoding::new(codec).threads(NonZeroUsize::new(2).unwrap()),
    })
    .device("tiny.toml")
}

/// Counts the dump's bytes and cancels the run at a limit.
#[derive(Default)]
struct Listener {
    limit: Option<u64>,
    stages: Vec<Stage>,
    notes: Vec<Note>,
}

impl Observer for Listener {
    fn begin(&mut self, stage: Stage, _: Option<u64>) -> Box<dyn Progress> {
        self.stages.push(stage);
        Box::new(Counter {
            done: AtomicU64::new(0),
            limit: self.limit.unwrap_or(u64::MAX),
        })
    }

    fn say(&mut self, note: &Note) {
        self.notes.push(note.clone());
    }
}

/// Cancels after some bytes.
struct Counter {
    done: AtomicU64,
    limit: u64,
}

impl Progress for Counter {
    fn advance(&self, content: u64, _stored: u64) {
        self.done.fetch_add(content, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.done.load(Ordering::Relaxed) > self.limit
    }
}

fn take(
    memory: Arc<dyn PhysMemory>,
    elf: &Arc<KernelElf>,
    to: &Path,
    options: &RunOptions,
) -> Result<Done, TakeError> {
    let to = Destination::parse(to);
    let source = Source::memory(memory, elf.clone());
    run(
        source,
        Output::Destination(&to),
        options,
        &mut Listener::default(),
    )
}

const FORMS: [(Container, Codec); 9] = [
    (Container::Saved, Codec::None),
    (Container::Saved, Codec::Gzip),
    (Container::Saved, Codec::Zstd),
    (Container::Raw, Codec::None),
    (Container::Raw, Codec::Gzip),
    (Container::Raw, Codec::Zstd),
    (Container::Sealed, Codec::None),
    (Container::Sealed, Codec::Gzip),
    (Container::Sealed, Codec::Zstd),
];

#[test]
fn machine_and_image_give_the_same_bytes_in_every_format() {
    let machine = tiny();
    let elf = elf(&machine);
    let dir = tempfile::tempdir().unwrap();
    write_out(&machine, dir.path().join("m")).unwrap();
    let payload = plan(machine.memory(), &elf, &PlanOptions::default())
        .unwrap()
        .into_payload();
    let mut expected = vec![0; payload.size().unwrap() as usize];
    payload.read_exact_at(&mut expected, 0).unwrap();
    for (container, codec) in FORMS {
        let options = options(container, codec);
        let opened = image::layout::open(dir.path().join("m/ram"), false).unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        take(machine.memory(), &elf, &one, &options).unwrap();
        take(Arc::new(opened.image), &elf, &other, &options).unwrap();
        let bytes = fs::read(&one).unwrap();
        assert!(bytes == fs::read(&other).unwrap(), "{container} {codec}");

        // The reader finds the payload in them.
        let dump = Dump::open(&one, &OpenOptions::default()).unwrap();
        assert_eq!(
            (dump.envelope().container(), dump.envelope().codec()),
            (container, codec)
        );
        let mut back = vec![0; expected.len()];
        dump.payload().read_exact_at(&mut back, 0).unwrap();
        assert!(back == expected, "{container} {codec}");
        fs::remove_file(one).unwrap();
        fs::remove_file(other).unwrap();
    }
}

#[test]
fn info_file_has_the_fields_of_the_header() {
    let machine = tiny();
    let dir = tempfile::tempdir().unwrap();
    let options = options(Container::Saved, Codec::Zstd);
    let done = take(machine.memory(), &elf(&machine), dir.path(), &options).unwrap();
    assert_eq!(done.published.path, dir.path().join("livecore.0.zst"));
    let len = fs::metadata(&done.published.path).unwrap().len();
    assert_eq!(len, done.written.header.dumplength);
    let text = fs::read_to_string(dir.path().join("info.0")).unwrap();
    let info = livecore_minidump::info::Info::parse(&text).unwrap();
    let mut header = info.to_header();
    header.dumpextent = done.written.header.dumpextent;
    assert_eq!(header.with_parity(), done.written.header);
    // The reader gets the header from the info file.
    let dump = Dump::open(&done.published.path, &OpenOptions::default()).unwrap();
    assert_eq!(
        dump.envelope().kerneldumpheader().unwrap().hostname,
        b"tiny.example.org"
    );
}

#[test]
fn output_does_not_depend_on_the_number_of_threads() {
    let machine = tiny();
    let elf = elf(&machine);
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for threads in [1, 4] {
        let mut options = options(Container::Sealed, Codec::Zstd);
        options.target.encoding.threads = NonZeroUsize::new(threads).unwrap();
        let path = dir.path().join(threads.to_string());
        take(machine.memory(), &elf, &path, &options).unwrap();
        files.push(fs::read(path).unwrap());
    }
    assert!(files[0] == files[1]);
}

#[test]
fn failed_run_leaves_no_files() {
    let machine = tiny();
    let elf = elf(&machine);
    let dir = tempfile::tempdir().unwrap();
    let options = options(Container::Sealed, Codec::None);
    let mut listener = Listener {
        limit: Some(1 << 20),
        ..Listener::default()
    };
    let to = Destination::parse(dir.path());
    let source = Source::memory(machine.memory(), elf.clone());
    let error = run(source, Output::Destination(&to), &options, &mut listener).unwrap_err();
    assert!(matches!(error, TakeError::Cancelled), "{error}");
    let full = Path::new("/dev/full");
    let error = take(machine.memory(), &elf, full, &options).unwrap_err();
    assert!(
        matches!(error, TakeError::Publish(PublishError::NoSpace { .. })),
        "{error}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Memory that fails at one page, like that of a guest that exits.
struct FailingAt(Arc<dyn PhysMemory>, u64);

impl PhysMemory for FailingAt {
    fn ranges(&self) -> &[std::ops::Range<PhysAddr>] {
        self.0.ranges()
    }

    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> std::io::Result<()> {
        if (at..at + buf.len() as u64).contains(&self.1) {
            return Err(std::io::Error::other("exit-42"));
        }
        self.0.read(PhysAddr(at), buf)
    }
}

#[test]
fn failing_memory_is_an_error_without_a_dump() {
    let machine = tiny();
    let last = *machine
        .truth()
        .dumped
        .iter()
        .filter(|run| run.why == livecore_synth::Why::Bit)
        .map(|run| &run.pa)
        .next_back()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let torn = Arc::new(FailingAt(machine.memory(), last.0));
    let options = options(Container::Sealed, Codec::Zstd);
    let error = take(torn, &elf(&machine), dir.path(), &options).unwrap_err();
    assert!(error.to_string().contains("exit-42"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn stream_gets_the_bytes_of_a_file_and_every_stage_is_reported() {
    let machine = tiny();
    let elf = elf(&machine);
    let dir = tempfile::tempdir().unwrap();
    for (container, codec) in FORMS {
        let mut options = options(container, codec);
        let path = dir.path().join(format!("{container}-{codec}"));
        take(machine.memory(), &elf, &path, &options).unwrap();
        let mut bytes = Vec::new();
        let mut listener = Listener::default();
        let output = Output::Stream(&mut bytes);
        let source = Source::memory(machine.memory(), elf.clone());
        let done = run(source, output, &options, &mut listener).unwrap();
        assert!(bytes == fs::read(&path).unwrap(), "{container} {codec}");
        assert_eq!(done.written.file_len, bytes.len() as u64);
        assert_eq!(done.published.path, Path::new("-"));
        assert_eq!(listener.stages, [Stage::Write]);
        assert_eq!(listener.notes, done.notes);
        // Rereading gives the same pages, and the caller gets the provenance of the seal.
        options.converge = Some(2);
        let (mut again, mut listener) = (Vec::new(), Listener::default());
        let output = Output::Stream(&mut again);
        let source = Source::memory(machine.memory(), elf.clone());
        let done = run(source, output, &options, &mut listener).unwrap();
        assert_eq!(listener.stages, [Stage::ReadAgain, Stage::Write]);
        let torn = done.written.provenance.torn.unwrap();
        assert_eq!(
            (torn.pages, torn.torn, torn.rounds),
            (done.pages.unwrap(), 0, 1)
        );
        if container != Container::Sealed {
            assert!(again == bytes, "{container} {codec}");
        }
    }
}

#[test]
fn cpu_without_registers_is_refused() {
    let machine = tiny();
    let options = options(Container::Sealed, Codec::Zstd).cpu(0);
    let dir = tempfile::tempdir().unwrap();
    let error = take(machine.memory(), &elf(&machine), dir.path(), &options).unwrap_err();
    assert!(matches!(error, TakeError::NoCpu { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// `--walk` reads a machine that runs on.
#[test]
fn torn_pages_of_a_located_machine_are_counted() {
    let machine = tiny();
    let elf = elf(&machine);
    let dir = tempfile::tempdir().unwrap();
    let to = Destination::parse(dir.path().join("dump"));
    let source = Source::Machine {
        machine: livecore_kernel::locate::Machine::find(machine.memory(), &elf).unwrap(),
        elf,
    };
    let options = options(Container::Sealed, Codec::Zstd);
    let output = Output::Destination(&to);
    let done = run(source, output, &options, &mut Listener::default()).unwrap();
    let torn = done.written.provenance.torn.unwrap();
    assert_eq!((torn.torn, torn.again, torn.rounds), (0, 0, 0));
    let dump = Dump::open(dir.path().join("dump"), &OpenOptions::default()).unwrap();
    assert_eq!(torn.pages, dump.bitmap().count());
}
