//! QEMU dumps a guest's memory over QMP in each format that it supports.
//!
//! The guest is never started (`-S`). Its RAM is a file with the memory of an emulated machine, or is
//! filled by `-device loader`. Registers are set through QEMU's GDB stub.

use livecore_minidump::PhysAddr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livecore_compress::ReadAt;
use livecore_livedump::image::{self, Format, Image, Options, RawLayout};
use livecore_minidump::PhysMemory;
use livecore_synth::Machine;
use serde_json::{Value, json};

use super::peers::skipped;
use crate::dumps::{payload, planned};

const QEMU: &str = "qemu-system-x86_64";
/// Timeout for QEMU's answers.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Whether QEMU is installed; prints a message if not.
pub(crate) fn has_qemu() -> bool {
    let found = Command::new(QEMU)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    found.is_ok() || skipped(QEMU)
}

/// A QEMU with a stopped guest.
pub(crate) struct Qemu {
    child: Child,
    qmp: BufReader<UnixStream>,
    dir: PathBuf,
}

impl Qemu {
    pub(crate) fn start(dir: &Path, args: &[String]) -> Self {
        let socket = |name: &str| format!("unix:{},server=on,wait=off", dir.join(name).display());
        let child = Command::new(QEMU)
            .args([
                "-S",
                "-display",
                "none",
                "-nodefaults",
                "-accel",
                "tcg",
                "-smp",
                "2",
            ])
            .args(["-qmp", &socket("qmp"), "-gdb", &socket("gdb")])
            .args(args)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let qmp = connect(&dir.join("qmp"));
        let mut qemu = Self {
            child,
            qmp: BufReader::new(qmp),
            dir: dir.to_owned(),
        };
        assert!(qemu.line()["QMP"].is_object());
        qemu.ask("qmp_capabilities", &json!({}));
        qemu
    }

    /// Starts QEMU with the machine's memory in the file `ram` of `dir`. Also returns the end of the
    /// memory below 4 GiB.
    pub(crate) fn with_memory_of(machine: &Machine, dir: &Path) -> (Self, u64) {
        let memory = machine.memory();
        let mut low = memory.ranges().iter().filter(|r| r.start.0 < 4 << 30);
        let below = low.next_back().unwrap().end.0;
        let ram = dir.join("ram");
        let size = backend(machine, below, &ram);
        let args = [
            "-M".into(),
            format!("pc,memory-backend=mem,max-ram-below-4g={below}"),
            "-m".into(),
            format!("{}M", size >> 20),
            "-object".into(),
            format!(
                "memory-backend-file,id=mem,size={size},mem-path={},share=on",
                ram.display()
            ),
        ];
        (Self::start(dir, &args), below)
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.qmp.read_line(&mut line).unwrap() > 0, "QEMU exited");
        serde_json::from_str(&line).unwrap()
    }

    /// Executes a QMP command.
    fn ask(&mut self, command: &str, arguments: &Value) -> Value {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.qmp.get_mut(), "{request}").unwrap();
        loop {
            let mut answer = self.line();
            if answer.get("event").is_none() {
                assert!(answer.get("error").is_none(), "{command}: {answer}");
                return answer["return"].take();
            }
        }
    }

    /// The formats that both QEMU and the reader support.
    pub(crate) fn formats(&mut self) -> Vec<String> {
        let answer = self.ask("query-dump-guest-memory-capability", &json!({}));
        let all = answer["formats"].as_array().unwrap().iter();
        all.filter_map(Value::as_str)
            .filter(|format| *format == "elf" || format.starts_with("kdump"))
            .map(str::to_owned)
            .collect()
    }

    /// Dumps the guest and opens the image.
    pub(crate) fn dump(&mut self, format: &str, paging: bool) -> Image {
        let path = self.dir.join(format!("{format}-{paging}"));
        let protocol = format!("file:{}", path.display());
        let mut arguments = json!({"paging": paging, "protocol": protocol});
        if format != "elf" {
            arguments["format"] = json!(format);
        }
        self.ask("dump-guest-memory", &arguments);
        let image = image::open(&path, &Options::default()).unwrap();
        let expected = match format {
            "elf" => Format::Elf,
            _ => Format::KdumpFlattened,
        };
        assert_eq!(image.format, expected, "{format}");
        image
    }

    /// Sets registers of a processor by their numbers in QEMU's x86-64 target description.
    pub(crate) fn set(&self, cpu: u32, registers: &[(u32, u64)]) {
        let mut gdb = connect(&self.dir.join("gdb"));
        let mut packet = |text: &str| {
            let sum = text.bytes().fold(0_u8, u8::wrapping_add);
            gdb.write_all(format!("${text}#{sum:02x}").as_bytes())
                .unwrap();
            let mut answer = Vec::new();
            // An answer ends with '#' and two digits, possibly after '+' and stop replies.
            while answer.len() < 4 || answer[answer.len() - 3] != b'#' {
                let mut byte = [0];
                gdb.read_exact(&mut byte).unwrap();
                answer.push(byte[0]);
            }
            gdb.write_all(b"+").unwrap();
            String::from_utf8(answer).unwrap()
        };
        // QEMU accepts `P` only after the target description was read.
        packet("qXfer:features:read:target.xml:0,ffb");
        let answer = packet(&format!("Hg{:x}", cpu + 1));
        assert!(answer.contains("$OK#"), "processor {cpu}: {answer}");
        for (number, value) in registers {
            let bytes = value.to_le_bytes().map(|b| format!("{b:02x}")).concat();
            let answer = packet(&format!("P{number:x}={bytes}"));
            assert!(answer.contains("$OK#"), "register {number}: {answer}");
        }
        // Not `D`, which resumes the guest.
        gdb.shutdown(Shutdown::Both).unwrap();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects to a socket as soon as QEMU has created it.
fn connect(path: &Path) -> UnixStream {
    let start = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT)).unwrap();
                return stream;
            }
            Err(e) => assert!(start.elapsed() < TIMEOUT, "{}: {e}", path.display()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The tiny machine with all of its memory below 4 GiB, or half of it above.
fn machine(is_split: bool) -> Machine {
    let text = machine_text!("tiny");
    let text = if is_split {
        // The kernel and its tables need the first 24 MiB.
        text.replace("size = \"32 MiB\"", "size = \"48 MiB\"\nlow = \"24 MiB\"")
            .replace("holes = [[\"0x1400000\", \"0x1410000\"]]\n", "")
    } else {
        text.to_owned()
    };
    Machine::parse(&text).unwrap()
}

/// Writes the machine's memory as a memory backend file, without the hole below 4 GiB. Returns its
/// size.
fn backend(machine: &Machine, below: u64, path: &Path) -> u64 {
    let memory = machine.memory();
    let offset = |pa: u64| {
        if pa < 4 << 30 {
            pa
        } else {
            pa - (4 << 30) + below
        }
    };
    let end = offset(memory.ranges().last().unwrap().end.0);
    let file = File::create(path).unwrap();
    file.set_len(end).unwrap();
    let mut page = [0; 4096];
    for range in memory.ranges() {
        for pa in (range.start.0..range.end.0).step_by(4096) {
            memory.read(PhysAddr(pa), &mut page).unwrap();
            if page.iter().any(|b| *b != 0) {
                file.write_all_at(&page, offset(pa)).unwrap();
            }
        }
    }
    end
}

/// Asserts that every page of the machine equals that of the image.
pub(crate) fn compare(machine: &Machine, image: &Image, what: &str) {
    compare_from(0, machine, image, what);
}

/// [`compare`] for the pages from `first`.
fn compare_from(first: u64, machine: &Machine, image: &Image, what: &str) {
    let truth = machine.memory();
    let (mut here, mut there) = ([0; 4096], [0; 4096]);
    let mut count = 0;
    for range in truth.ranges() {
        let pages = (range.start.0..range.end.0).step_by(4096);
        for pa in pages.filter(|pa| *pa >= first) {
            truth.read(PhysAddr(pa), &mut here).unwrap();
            image
                .memory
                .read(PhysAddr(pa), &mut there)
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(here == there, "{what}: page {pa:#x}");
            count += 1;
        }
    }
    assert!(count > 7900, "{what}: {count} pages");
}

/// The minidump of this memory.
fn minidump(memory: Arc<dyn PhysMemory>, machine: &Machine) -> Vec<u8> {
    payload(&planned(memory, machine.kernel()).unwrap())
}

/// End of the memory that [`long_mode`] overwrites.
const TABLES: u64 = 0xb000;

/// Sets processor 0 to 64-bit mode with temporary page tables that map only the first 2 MiB, dumps
/// the guest with paging, and restores the memory.
fn long_mode(qemu: &mut Qemu, ram: &File) -> Image {
    let mut before = vec![0; TABLES as usize];
    ReadAt::read_exact_at(ram, &mut before, 0).unwrap();
    let put = |at, word: u64| ram.write_all_at(&word.to_le_bytes(), at).unwrap();
    // A 64-bit code segment, and an identity map of the first 2 MiB.
    put(8, 0x00af_9b00_0000_ffff);
    put(0x8000, 0x9003);
    put(0x9000, 0xa003);
    put(0xa000, 0x83);
    qemu.set(
        0,
        &[
            (CR4, PAE),
            (EFER, 1 << 8),
            (CR3, 0x8000),
            (CR0, 1 << 31 | 0x33),
            (CS, 8),
        ],
    );
    let image = qemu.dump("elf", true);
    ram.write_all_at(&before, 0).unwrap();
    image
}

/// Dumps a guest in every format and compares memory and minidump.
fn every_format(is_split: bool) {
    let dir = tempfile::tempdir().unwrap();
    let machine = machine(is_split);
    let expected = minidump(machine.memory(), &machine);
    let (mut qemu, below) = Qemu::with_memory_of(&machine, dir.path());
    let ram = dir.path().join("ram");
    let formats = qemu.formats();
    assert!(formats.contains(&"elf".into()), "{formats:?}");
    for format in &formats {
        let image = qemu.dump(format, false);
        compare(&machine, &image, format);
        assert!(minidump(image.memory, &machine) == expected, "{format}");
    }
    // The memory backend file is raw memory with a hole.
    let options = Options::default().layout(format!("pc:{below}").parse::<RawLayout>().unwrap());
    let raw = image::open(&ram, &options).unwrap();
    compare(&machine, &raw, "raw");
    assert!(minidump(raw.memory, &machine) == expected, "raw");

    let file = File::options().read(true).write(true).open(&ram).unwrap();
    let image = long_mode(&mut qemu, &file);
    if !is_split {
        // The page tables map only 2 MiB, but the image contains all of memory.
        compare_from(TABLES, &machine, &image, "page tables of 2 MiB");
    }
    let root = machine.truth().root;
    qemu.set(
        0,
        &[
            (CR3, root.0),
            (RAX, 0x1234_5678_9abc_def0),
            (R15, 0x0fed_cba9_8765_4321),
            (RIP, 0xffff_ffff_8020_1234),
            (RSP, 0xffff_fe00_0000_5678),
        ],
    );
    for format in &formats {
        let image = qemu.dump(format, false);
        let [cpu, other] = image.cpus[..] else {
            panic!("{format}: {} processors", image.cpus.len());
        };
        assert_eq!((cpu.number, other.number), (0, 1));
        let (cpu, other) = (cpu.x86().unwrap(), other.x86().unwrap());
        let control = cpu.control.unwrap();
        assert!(
            control.paging() && !other.control.unwrap().paging(),
            "{format}"
        );
        assert_eq!(control.root(), root, "{format}");
        assert_eq!(control.cr4 & PAE, PAE, "{format}");
        assert_eq!(cpu.rax, 0x1234_5678_9abc_def0, "{format}");
        assert_eq!(cpu.r15, 0x0fed_cba9_8765_4321, "{format}");
        assert_eq!(cpu.rip, 0xffff_ffff_8020_1234, "{format}");
        assert_eq!(cpu.rsp, 0xffff_fe00_0000_5678, "{format}");
    }
    // A segment per mapping: they overlap, and include the whole direct map.
    let image = qemu.dump("elf", true);
    assert_eq!(image.cpus.len(), 2);
    compare(&machine, &image, "paging");
    assert!(minidump(image.memory, &machine) == expected, "paging");
}

/// Numbers of registers in QEMU's `i386-64bit.xml`.
const RAX: u32 = 0;
const RSP: u32 = 7;
const R15: u32 = 15;
const RIP: u32 = 16;
const CS: u32 = 18;
const CR0: u32 = 27;
const CR3: u32 = 29;
const CR4: u32 = 30;
const EFER: u32 = 32;

/// `CR4_PAE`.
const PAE: u64 = 1 << 5;

#[test]
fn qemu_dumps_of_a_guest_below_4_gib_have_its_memory_and_registers() {
    if has_qemu() {
        every_format(false);
    }
}

#[test]
fn qemu_dumps_of_a_guest_above_4_gib_have_its_memory_and_registers() {
    if has_qemu() {
        every_format(true);
    }
}

#[test]
fn qemu_dumps_contain_memory_written_by_a_loader_device() {
    if !has_qemu() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let machine = machine(false);
    let mut args = vec!["-M".into(), "pc".into(), "-m".into(), "32M".into()];
    for (index, range) in machine.memory().ranges().iter().enumerate() {
        let mut bytes = vec![0; (range.end.0 - range.start.0) as usize];
        machine.memory().read(range.start, &mut bytes).unwrap();
        let path = dir.path().join(format!("range{index}"));
        std::fs::write(&path, bytes).unwrap();
        args.push("-device".into());
        args.push(format!(
            "loader,file={},addr={:#x},force-raw=on",
            path.display(),
            range.start
        ));
    }
    let mut qemu = Qemu::start(dir.path(), &args);
    for format in qemu.formats() {
        compare(&machine, &qemu.dump(&format, false), &format);
    }
}
