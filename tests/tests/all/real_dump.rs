//! Dumps that a FreeBSD kernel wrote.
//!
//! `LIVECORE_REAL_DUMPS` names a folder with `vmcore-amd64-minidump.xz`, `vmcore-amd64-full.xz` and
//! `kernel-amd64.xz` from LLVM's test suite: a minidump and a full dump of a FreeBSD 14-CURRENT amd64
//! kernel. The minidump was reduced to the pages that a debugger reads and ends inside a page.
//! The expected values were read with LLDB and libkvm. Without the variable the tests are skipped.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use livecore_kernel::{End, Kernel, Pair};
use livecore_minidump::{
    AnyDump, Container, Dump, KernelElf, KernelMemory, OpenOptions, ReadError, VirtAddr, Warning,
};

const FOLDER: &str = "LIVECORE_REAL_DUMPS";

/// Return addresses of the crashed thread, as LLDB shows them.
const CALLERS: [u64; 10] = [
    0xffff_ffff_80c0_9916,
    0xffff_ffff_80c0_9d90,
    0xffff_ffff_80c0_9b93,
    0xffff_ffff_80c5_7d91,
    0xffff_ffff_80c1_9e71,
    0xffff_ffff_80c1_92bc,
    0xffff_ffff_80c1_9933,
    0xffff_ffff_80c1_977f,
    0xffff_ffff_8108_ba8c,
    0xffff_ffff_8106_20ce,
];

/// The folder of the compressed files, and one for the decompressed ones.
struct Folders {
    from: PathBuf,
    to: tempfile::TempDir,
}

impl Folders {
    /// `None` without `LIVECORE_REAL_DUMPS`; prints a message.
    fn new() -> Option<Self> {
        let Some(from) = std::env::var_os(FOLDER) else {
            let _ = writeln!(std::io::stderr(), "skipped: {FOLDER} is not set");
            return None;
        };
        Some(Self {
            from: from.into(),
            to: tempfile::tempdir().unwrap(),
        })
    }

    /// Decompresses a file and returns its path.
    fn unpack(&self, name: &str) -> PathBuf {
        let packed = self.from.join(format!("{name}.xz"));
        let target = self.to.path().join(name);
        let status = Command::new("xz")
            .args(["--decompress", "--stdout", "--"])
            .arg(&packed)
            .stdout(Stdio::from(File::create(&target).unwrap()))
            .status()
            .unwrap_or_else(|error| panic!("xz: {error}"));
        assert!(status.success(), "xz fails on {}", packed.display());
        target
    }
}

/// The minidump and its kernel.
struct Real {
    dump: Dump,
    kernel: KernelElf,
    _folders: Folders,
}

fn real() -> Option<Real> {
    let folders = Folders::new()?;
    let vmcore = folders.unpack("vmcore-amd64-minidump");
    let kernel = folders.unpack("kernel-amd64");
    Some(Real {
        dump: Dump::open(&vmcore, &OpenOptions::default()).unwrap(),
        kernel: KernelElf::from_bytes(std::fs::read(kernel).unwrap()).unwrap(),
        _folders: folders,
    })
}

impl Real {
    fn symbol(&self, name: &str) -> u64 {
        self.kernel
            .symbol(name)
            .unwrap_or_else(|| panic!("no symbol {name}"))
            .value
    }

    fn bytes<const N: usize>(&self, va: u64) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.dump
            .read_virt(VirtAddr(va), &mut bytes)
            .map(|()| bytes)
    }

    fn int(&self, va: u64) -> Result<i32, ReadError> {
        self.bytes(va).map(i32::from_le_bytes)
    }

    fn long(&self, va: u64) -> Result<u64, ReadError> {
        self.bytes(va).map(u64::from_le_bytes)
    }

    /// The value of a `const int` that the kernel exports.
    fn constant(&self, name: &str) -> u64 {
        let value = self
            .int(self.symbol(name))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        u64::try_from(value).unwrap()
    }

    /// A name of at most 20 bytes.
    fn name(&self, va: u64) -> Result<String, ReadError> {
        let bytes: [u8; 20] = self.bytes(va)?;
        let end = bytes
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

#[test]
fn real_minidump_has_its_sections_and_is_truncated() {
    let Some(real) = real() else { return };
    let dump = &real.dump;
    assert_eq!(dump.envelope().container(), Container::Saved);
    let mini = dump.header();
    assert_eq!(
        (mini.version, mini.msgbufsize, mini.pmapsize),
        (3, 98232, 0x7f_f000)
    );
    assert_eq!(mini.kernbase, 0xffff_fe00_0000_0000);
    assert_eq!(dump.envelope().file_len(), 101_685_248);
    assert_eq!(dump.bitmap().count(), 24_144);
    assert_eq!(dump.dump_avail().bits(), 32_634);
    assert_eq!(dump.layout().end(), 107_388_928);
    let short = dump.shortness().unwrap().unwrap();
    assert_eq!((short.expected, short.actual), (107_388_928, 101_685_248));
    assert_eq!(dump.envelope().warnings(), [Warning::Short(short)]);
}

#[test]
fn variables_of_the_real_kernel_have_the_values_that_lldb_shows() {
    let Some(real) = real() else { return };
    assert_eq!(real.int(real.symbol("hz")).unwrap(), 100);
    assert_eq!(real.int(real.symbol("dumptid")).unwrap(), 0x1893e);
    assert_eq!(
        real.long(real.symbol("allproc")).unwrap(),
        0xffff_f800_02c3_b528
    );
}

#[test]
fn pcb_and_frames_of_the_crashed_thread_are_in_memory() {
    let Some(real) = real() else { return };
    let pcb = real.symbol("dumppcb");
    // Offsets of `struct pcb` are part of the debugger ABI.
    let registers = [
        (0, 0xffff_f800_0336_9380),
        (8, 0),
        (16, 0xffff_f800_0336_93a8),
        (24, 0xffff_fe00_45b1_1c00),
        (32, 0xffff_fe00_798c_4760),
        (40, 0xffff_fe00_798c_4748),
        (48, 0),
        (56, 0xffff_ffff_80c0_9ade),
    ];
    for (offset, value) in registers {
        assert_eq!(real.long(pcb + offset).unwrap(), value, "pcb + {offset}");
    }
    let mut frame = real.long(pcb + 32).unwrap();
    for caller in CALLERS {
        assert_eq!(real.long(frame + 8).unwrap(), caller, "frame {frame:#x}");
        frame = real.long(frame).unwrap();
    }
}

/// Title, `td_tid` and `td_oncpu` of every thread, from the lists and the exported offsets.
fn listed(real: &Real) -> Vec<(String, i32, i32)> {
    let [pid, comm, list, threads] =
        ["p_pid", "p_comm", "p_list", "p_threads"].map(|n| real.constant(&format!("proc_off_{n}")));
    let [tid, name, oncpu, plist] = ["td_tid", "td_name", "td_oncpu", "td_plist"]
        .map(|n| real.constant(&format!("thread_off_{n}")));
    let mut found = Vec::new();
    let mut process = real.long(real.symbol("allproc")).unwrap();
    while process != 0 && found.len() < 100 {
        let command = real.name(process + comm).unwrap();
        let number = real.int(process + pid).unwrap();
        let mut thread = real.long(process + threads).unwrap();
        while thread != 0 && found.len() < 100 {
            let own = real.name(thread + name).unwrap();
            let (id, cpu) = (
                real.int(thread + tid).unwrap(),
                real.int(thread + oncpu).unwrap(),
            );
            let own = if own == command {
                String::new()
            } else {
                format!("/{own}")
            };
            found.push((format!("(pid {number}) {command}{own}"), id, cpu));
            thread = real.long(thread + plist).unwrap();
        }
        process = real.long(process + list).unwrap();
    }
    found
}

/// Some threads are in the truncated last page: a reader of whole pages finds 11.
#[test]
fn thread_lists_of_the_real_minidump_have_16_threads() {
    let Some(real) = real() else { return };
    let found = listed(&real);
    assert_eq!(found.len(), 16, "{found:?}");
    assert_eq!(
        (found[0].0.as_str(), found[0].1),
        ("(pid 800) sysctl", 0x1893e)
    );
    assert_eq!(
        (found[1].0.as_str(), found[1].2),
        ("(pid 28) pagedaemon/dom0", 4)
    );
    assert_eq!(found[2].0, "(pid 28) pagedaemon/laundry: dom0");
}

/// Names, ids and CPUs from the lists, registers from the pcb that LLDB uses, frames from the chain of
/// frame pointers.
#[test]
fn threads_of_the_real_minidump_equal_their_structures_in_memory() {
    let Some(real) = real() else { return };
    let kernel = Kernel::of_dump(&real.dump, &real.kernel);
    let found = kernel.processes().unwrap();
    let threads: Vec<_> = found.threads().collect();
    let listed = listed(&real);
    assert_eq!(threads.len(), listed.len(), "{:?}", found.problems);
    let size = real.constant("pcb_size");
    let stoppcbs = real.symbol("stoppcbs");
    // An array in 14.0, a pointer in later kernels.
    let stoppcbs = match real.kernel.symbol("stoppcbs").unwrap().size {
        8 => real.long(stoppcbs).unwrap(),
        _ => stoppcbs,
    };
    let dumptid = real.int(real.symbol("dumptid")).unwrap();
    let mut frames = 0;
    for (thread, (title, tid, cpu)) in threads.iter().copied().zip(listed) {
        assert_eq!(
            (thread.tid, thread.cpu.map_or(-1, |c| c as i32)),
            (tid, cpu)
        );
        let (suffix, pcb) = match cpu {
            _ if tid == dumptid => (" (crashed)".into(), real.symbol("dumppcb")),
            -1 => {
                let at = thread.at.0 + real.constant("thread_off_td_pcb");
                (String::new(), real.long(at).unwrap())
            }
            cpu => (format!(" (on CPU {cpu})"), stoppcbs + cpu as u64 * size),
        };
        assert_eq!(thread.title(), format!("{title}{suffix}"));
        let registers = kernel.registers(thread).unwrap();
        let order = [
            ("r15", 0),
            ("r14", 8),
            ("r13", 16),
            ("r12", 24),
            ("rbp", 32),
            ("rsp", 40),
            ("rbx", 48),
            ("rip", 56),
        ];
        for (name, at) in order {
            let expected = real.long(pcb + at).unwrap();
            assert_eq!(registers.get(name), Some(expected), "{title}: {name}");
        }
        assert_eq!(registers.get("rax"), None);
        let stack = kernel.stack(&registers);
        assert_eq!(
            stack[0].pc,
            VirtAddr(real.long(pcb + 56).unwrap()),
            "{title}"
        );
        let mut fp = real.long(pcb + 32).unwrap();
        for frame in &stack[1..] {
            assert_eq!(frame.pc, VirtAddr(real.long(fp + 8).unwrap()), "{title}");
            fp = real.long(fp).unwrap();
        }
        frames += stack.len();
    }
    assert!(frames > 60, "{frames} frames");
}

#[test]
fn threads_of_the_real_minidump_have_the_titles_registers_and_callers_that_lldb_shows() {
    let Some(real) = real() else { return };
    let kernel = Kernel::new(&real.dump, &real.kernel);
    let found = kernel.processes().unwrap();
    let threads: Vec<_> = found.threads().collect();
    let titles: Vec<String> = threads.iter().map(|t| t.title()).collect();
    assert_eq!(titles.len(), 16, "{titles:#?} {:?}", found.problems);
    assert_eq!(titles[0], "(pid 800) sysctl (crashed)");
    assert_eq!(titles[1], "(pid 28) pagedaemon/dom0 (on CPU 4)");
    assert!(titles[2].starts_with("(pid 28) pagedaemon/laundry: dom0"));

    let crashed = kernel.registers(threads[0]).unwrap();
    assert_eq!(crashed.pc(), Some(VirtAddr(0xffff_ffff_80c0_9ade)));
    assert_eq!(crashed.sp(), Some(VirtAddr(0xffff_fe00_798c_4748)));
    assert_eq!(crashed.fp(), Some(VirtAddr(0xffff_fe00_798c_4760)));
    let callers: Vec<u64> = kernel
        .stack(&crashed)
        .iter()
        .skip(1)
        .map(|f| f.pc.0)
        .collect();
    assert_eq!(callers, CALLERS);
    let stopped = kernel.registers(threads[1]).unwrap();
    assert_eq!(stopped.pc(), Some(VirtAddr(0xffff_ffff_8105_7988)));
    assert_eq!(stopped.sp(), Some(VirtAddr(0xffff_fe00_008e_2de8)));
    assert_eq!(stopped.fp(), Some(VirtAddr(0xffff_fe00_008e_2e00)));
}

/// LLDB's test expects 11, 11 and 5 frames in the minidump, and 11, 13 and 4 in the full dump. LLDB
/// omits the first frame of a kernel thread, whose frame pointer is zero.
#[test]
fn backtraces_of_the_real_dumps_have_lldbs_frames_and_the_first_frame() {
    let Some(folders) = Folders::new() else {
        return;
    };
    let kernel = folders.unpack("kernel-amd64");
    for (name, expected) in [
        ("vmcore-amd64-minidump", [(0, 11), (1, 12), (2, 6)]),
        ("vmcore-amd64-full", [(0, 11), (1, 14), (10, 5)]),
    ] {
        let vmcore = folders.unpack(name);
        let dump = AnyDump::open(&vmcore, &OpenOptions::default()).unwrap();
        let pair = Pair::open(&dump, &kernel).unwrap();
        let kernel = pair.kernel();
        let threads = kernel.threads().unwrap();
        for (number, frames) in expected {
            let found = kernel.backtrace(&threads[number]).unwrap();
            assert_eq!(found.len(), frames, "{name}, thread {number}: {found:#x?}");
            let end = found.last().and_then(|frame| frame.ends.clone());
            match number {
                0 => assert_eq!(end, Some(End::UserFrame(VirtAddr(0x7fff_ffff_c900)))),
                _ => assert_eq!(end, Some(End::NoFrame)),
            }
        }
    }
}

/// The kernel has no `version` symbol.
#[test]
fn real_full_dump_is_read_with_its_kernel() {
    let Some(folders) = Folders::new() else {
        return;
    };
    let vmcore = folders.unpack("vmcore-amd64-full");
    let kernel = folders.unpack("kernel-amd64");
    let dump = AnyDump::open(&vmcore, &OpenOptions::default()).unwrap();
    let pair = Pair::open(&dump, &kernel).unwrap();
    let kernel = pair.kernel();
    assert_eq!(kernel.read_value::<i32>("hz").unwrap(), 100);
    let threads = kernel.threads().unwrap();
    let titles: Vec<_> = threads.iter().map(|thread| thread.title()).collect();
    assert_eq!(titles.len(), 13);
    assert_eq!(titles[0], "(pid 806) sysctl (crashed)");
    assert_eq!(titles[1], "(pid 11) idle/idle: cpu0 (on CPU 0)");
    assert_eq!(titles[10], "(pid 11) idle/idle: cpu9");
    for (number, pc, sp) in [
        (0, 0xffff_ffff_80c0_9ade, 0xffff_fe00_85cb_2748),
        (1, 0xffff_ffff_8105_7988, 0xffff_ffff_81d4_3808),
        (10, 0xffff_ffff_80c3_c8c8, 0xffff_fe00_007a_4a08),
    ] {
        let found = kernel.registers(&threads[number]).unwrap();
        let expected = (Some(VirtAddr(pc)), Some(VirtAddr(sp)));
        assert_eq!((found.pc(), found.sp()), expected, "{number}");
    }
    let error = pair.message_buffer().err().unwrap();
    let is_msgbufp = matches!(error, livecore_minidump::Error::NoSymbol("msgbufp"));
    assert!(is_msgbufp, "{error}");
}
