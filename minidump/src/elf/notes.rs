//! The notes of an exported core: threads with their registers and names, in the format of FreeBSD or
//! Linux.
//!
//! A core has no way to mark a register as unknown, so a register that was not saved is 0.

use crate::elf::write::put_note;
use crate::{Architecture, ByteOrder};
use livecore_defs::elf::{
    ELFOSABI_FREEBSD, ELFOSABI_NONE, NT_AUXV, NT_PROCSTAT_AUXV, NT_PRPSINFO, NT_PRSTATUS,
    NT_THRMISC,
};
use livecore_defs::prstatus::{Prstatus, Slot};

/// `MAXCOMLEN`: the length of a thread's name that all debuggers show.
const NAME_LEN: usize = 19;

/// The style of notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoteStyle {
    /// FreeBSD notes, for lldb, kgdb, and gdb built with support for FreeBSD.
    #[default]
    FreeBsd,
    /// Linux notes, for other gdb. They do not have thread names.
    Linux,
}

impl NoteStyle {
    /// `EI_OSABI` of the core.
    pub fn osabi(self) -> u8 {
        match self {
            Self::FreeBsd => ELFOSABI_FREEBSD,
            Self::Linux => ELFOSABI_NONE,
        }
    }
}

/// A thread in a core.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThreadNote {
    /// `td_tid`
    pub tid: i32,
    /// `p_pid`
    pub pid: i32,
    /// Its name. Debuggers show at most `NAME_LEN` bytes ([`short_name`]).
    pub name: String,
    /// The GDB names and values of the known registers.
    pub registers: Vec<(&'static str, u64)>,
    /// The signal that stopped it; 0 for none.
    pub signal: i32,
}

/// Returns the first of `names` that is not longer than `NAME_LEN`, or the last one, truncated.
pub fn short_name(names: &[String]) -> String {
    if let Some(fits) = names.iter().find(|name| name.len() <= NAME_LEN) {
        return fits.clone();
    }
    let mut name = names.last().cloned().unwrap_or_default();
    let mut end = NAME_LEN.min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

/// The properties that all threads share.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoteContext {
    pub(super) style: NoteStyle,
    pub(super) arch: &'static Architecture,
    pub(super) order: ByteOrder,
    /// The size of an address in bytes.
    pub(super) word: usize,
    /// `osreldate`; 0 if unknown.
    pub(super) osreldate: u32,
    /// `e_entry` of the kernel; 0 if unknown.
    pub(super) entry: u64,
}

/// Appends the notes of all threads. Debuggers select the first.
pub(super) fn put_threads(out: &mut Vec<u8>, context: NoteContext, threads: &[ThreadNote]) {
    let Some(layout) = context.arch.prstatus else {
        return;
    };
    let first_pid = threads.first().map_or(0, |t| t.pid);
    let bytes = Bytes::new(context);
    match context.style {
        NoteStyle::FreeBsd => {
            let info = bytes.freebsd_psinfo(first_pid);
            put_note(out, context.order, b"FreeBSD", NT_PRPSINFO, &info);
            for thread in threads {
                let status = bytes.freebsd_status(layout, thread);
                put_note(out, context.order, b"FreeBSD", NT_PRSTATUS, &status);
                // `struct thrmisc`: the name and 4 bytes.
                let mut misc = [0; 24];
                let name = short_name(std::slice::from_ref(&thread.name));
                misc[..name.len()].copy_from_slice(name.as_bytes());
                put_note(out, context.order, b"FreeBSD", NT_THRMISC, &misc);
            }
            let mut vector = bytes.number(4, 2 * context.word as u64);
            vector.extend(bytes.auxv());
            put_note(out, context.order, b"FreeBSD", NT_PROCSTAT_AUXV, &vector);
        }
        NoteStyle::Linux => {
            for (i, thread) in threads.iter().enumerate() {
                let status = bytes.linux_status(layout, thread);
                put_note(out, context.order, b"CORE", NT_PRSTATUS, &status);
                if i == 0 {
                    let info = bytes.linux_psinfo(first_pid);
                    put_note(out, context.order, b"CORE", NT_PRPSINFO, &info);
                    put_note(out, context.order, b"CORE", NT_AUXV, &bytes.auxv());
                }
            }
        }
    }
}

/// Structures in the byte order and word size of a kernel.
struct Bytes {
    order: ByteOrder,
    word: usize,
    osreldate: u32,
    entry: u64,
}

impl Bytes {
    fn new(context: NoteContext) -> Self {
        Self {
            order: context.order,
            word: context.word,
            osreldate: context.osreldate,
            entry: context.entry,
        }
    }

    fn number(&self, len: usize, value: u64) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.order.put(&mut bytes, value);
        bytes
    }

    /// Appends an `int`.
    fn int(&self, out: &mut Vec<u8>, value: i32) {
        out.extend(self.number(4, u64::from(value.cast_unsigned())));
    }

    /// Appends a `long`, aligned to its size.
    fn long(&self, out: &mut Vec<u8>, value: u64) {
        out.resize(out.len().next_multiple_of(self.word), 0);
        out.extend(self.number(self.word, value));
    }

    fn registers(&self, slots: &[Slot], layout: &Prstatus, thread: &ThreadNote) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, len) in slots {
            let known = thread.registers.iter().chain(layout.always);
            let value = known.into_iter().find(|(n, _)| n == name);
            out.extend(self.number(*len, value.map_or(0, |(_, v)| *v)));
        }
        out
    }

    /// `struct prstatus`
    fn freebsd_status(&self, layout: &Prstatus, thread: &ThreadNote) -> Vec<u8> {
        let registers = self.registers(layout.freebsd, layout, thread);
        let mut out = Vec::new();
        self.int(&mut out, 1);
        let head = if self.word == 8 { 48 } else { 28 };
        self.long(&mut out, (head + registers.len()) as u64);
        self.long(&mut out, registers.len() as u64);
        self.long(&mut out, 0);
        self.int(&mut out, self.osreldate.cast_signed());
        self.int(&mut out, thread.signal);
        self.int(&mut out, thread.tid);
        out.resize(head, 0);
        out.extend(registers);
        out
    }

    /// `struct prpsinfo`
    fn freebsd_psinfo(&self, pid: i32) -> Vec<u8> {
        let mut out = Vec::new();
        self.int(&mut out, 1);
        self.long(&mut out, if self.word == 8 { 120 } else { 112 });
        let name = out.len();
        out.extend(b"kernel");
        out.resize(name + 17, 0);
        out.extend(b"kernel");
        out.resize((name + 17 + 81).next_multiple_of(4), 0);
        self.int(&mut out, pid);
        out.resize(out.len().next_multiple_of(self.word), 0);
        out
    }

    /// `struct elf_prstatus`
    fn linux_status(&self, layout: &Prstatus, thread: &ThreadNote) -> Vec<u8> {
        let mut out = Vec::new();
        for value in [thread.signal, 0, 0, thread.signal] {
            self.int(&mut out, value);
        }
        // `pr_cursig` is a short.
        out.truncate(12);
        out.extend(self.number(2, u64::from(thread.signal.cast_unsigned())));
        self.long(&mut out, 0);
        self.long(&mut out, 0);
        for value in [thread.tid, 0, 0, 0] {
            self.int(&mut out, value);
        }
        for _ in 0..8 {
            self.long(&mut out, 0);
        }
        out.extend(self.registers(layout.linux, layout, thread));
        self.int(&mut out, 0);
        out.resize(out.len().next_multiple_of(self.word), 0);
        out
    }

    /// `struct elf_prpsinfo`
    fn linux_psinfo(&self, pid: i32) -> Vec<u8> {
        let mut out = vec![0, b'R', 0, 0];
        self.long(&mut out, 0);
        let ids = if self.word == 8 { 8 } else { 4 };
        out.resize(out.len() + ids, 0);
        for value in [pid, 0, 0, 0] {
            self.int(&mut out, value);
        }
        let name = out.len();
        out.extend(b"kernel");
        out.resize(name + 16, 0);
        out.extend(b"kernel");
        out.resize(name + 16 + 80, 0);
        out
    }

    /// Returns `AT_ENTRY`, which shows a debugger that the kernel is at its linked address, and the
    /// terminator.
    fn auxv(&self) -> Vec<u8> {
        const AT_ENTRY: u64 = 9;
        let mut out = Vec::new();
        for value in [AT_ENTRY, self.entry, 0, 0] {
            self.long(&mut out, value);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use livecore_defs::{ElfMachine, amd64, arm64, i386};

    fn bytes(word: usize) -> Bytes {
        Bytes {
            order: ByteOrder::Little,
            word,
            osreldate: 1_400_000,
            entry: 0,
        }
    }

    /// The sizes and offsets are those of a C compiler.
    #[test]
    fn structures_have_the_size_of_the_c_structures() {
        let thread = ThreadNote {
            tid: 100_670,
            registers: vec![("rip", 0x1122_3344_5566_7788), ("eip", 0x1234_5678)],
            ..ThreadNote::default()
        };
        let amd64 = bytes(8).freebsd_status(&amd64::PRSTATUS, &thread);
        assert_eq!(amd64.len(), 224);
        assert_eq!(amd64[40..44], 100_670_u32.to_le_bytes());
        assert_eq!(
            amd64[48 + 136..48 + 144],
            0x1122_3344_5566_7788_u64.to_le_bytes()
        );
        let linux = bytes(8).linux_status(&amd64::PRSTATUS, &thread);
        assert_eq!(linux.len(), 336);
        assert_eq!(linux[32..36], 100_670_u32.to_le_bytes());
        assert_eq!(
            linux[112 + 128..112 + 136],
            0x1122_3344_5566_7788_u64.to_le_bytes()
        );
        let i386 = bytes(4).freebsd_status(&i386::PRSTATUS, &thread);
        assert_eq!(i386.len(), 28 + 76);
        assert_eq!(i386[24..28], 100_670_u32.to_le_bytes());
        let linux = bytes(4).linux_status(&i386::PRSTATUS, &thread);
        assert_eq!(linux.len(), 144);
        assert_eq!(linux[72 + 48..72 + 52], 0x1234_5678_u32.to_le_bytes());
        assert_eq!(bytes(8).linux_status(&arm64::PRSTATUS, &thread).len(), 392);
        let row = Architecture::of_machine(ElfMachine::EM_RISCV).unwrap();
        let status = bytes(8).linux_status(row.prstatus.unwrap(), &thread);
        assert_eq!(status.len(), 376);
        assert_eq!(
            bytes(8).freebsd_status(&arm64::PRSTATUS, &thread).len(),
            48 + 272
        );
        assert_eq!(bytes(8).freebsd_psinfo(1).len(), 120);
        assert_eq!(bytes(4).freebsd_psinfo(1).len(), 112);
        assert_eq!(bytes(8).linux_psinfo(1).len(), 136);
        assert_eq!(bytes(4).linux_psinfo(1).len(), 124);
    }

    #[test]
    fn the_first_name_that_fits_is_used() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let long = names(&["(pid 28) pagedaemon/dom0", "pagedaemon/dom0"]);
        assert_eq!(short_name(&long), "pagedaemon/dom0");
        assert_eq!(short_name(&names(&["(pid 1) init"])), "(pid 1) init");
        assert_eq!(
            short_name(&names(&["aaaaaaaaaaaaaaaaaaäb"])),
            "aaaaaaaaaaaaaaaaaa"
        );
    }
}
