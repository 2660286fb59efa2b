//! Whether a kernel file is the kernel of a dump.
//!
//! A linker's build-id is part of the image, and a debug file has it, too: it decides where both
//! sides have one. A kernel's `version` string is in its data and never written to, and it is
//! different for every build. It is compared with the dump's memory; where either side lacks it,
//! with the `versionstring` of the dump's header.

use crate::kernel::displacement;
use livecore_defs::text::hex;
use livecore_minidump::elf::sections::Sections;
use livecore_minidump::header::escaped;
use livecore_minidump::{
    Architecture, ByteOrder, Dump, FullDump, KernelDumpHeader, KernelElf, KernelMemory, VirtAddr,
};

/// The most bytes of `version` that are compared. FreeBSD `sys/conf/newvers.sh` writes about 150.
const VERSION_LIMIT: usize = 1024;

/// Bytes of `versionstring` in a kerneldumpheader, its NUL aside.
const HEADER_ROOM: usize = 191;

/// No version is shorter: `FreeBSD` and a release.
const SHORTEST_VERSION: usize = 8;

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// It is the kernel of the dump.
    Same,
    /// It is another kernel.
    Contradicts {
        /// What differs: `architecture`, `build-id`, `version`.
        what: &'static str,
        /// What the kernel file says, printable.
        kernel: String,
        /// What the dump says, printable.
        dump: String,
    },
    /// Nothing that could be compared is on both sides.
    Unknown {
        /// What is missing.
        why: String,
    },
}

/// Compares a kernel file with a dump.
pub fn compare(elf: &KernelElf, dump: &Dump) -> Agreement {
    let mini = dump.header();
    let memory = (dump as &dyn KernelMemory, displacement(dump));
    compare_with(
        elf,
        (mini.arch, mini.order),
        dump.envelope().kerneldumpheader(),
        memory,
    )
}

/// Compares a kernel file with a full dump, whose kernel map `memory` translates by.
pub fn compare_full(elf: &KernelElf, dump: &FullDump, memory: &dyn KernelMemory) -> Agreement {
    let memory = (memory, 0);
    compare_with(
        elf,
        (dump.arch(), dump.order()),
        dump.envelope().kerneldumpheader(),
        memory,
    )
}

/// Memory, and how far from where its file says the kernel is in there.
type Displaced<'a> = (&'a dyn KernelMemory, u64);

fn compare_with(
    elf: &KernelElf,
    (arch, order): (&'static Architecture, ByteOrder),
    header: Option<&KernelDumpHeader>,
    memory: Displaced<'_>,
) -> Agreement {
    let expected = arch.machine;
    if elf.machine() != expected || elf.order() != order {
        return Agreement::Contradicts {
            what: "architecture",
            kernel: format!(
                "ELF machine {}, {}-endian",
                elf.machine(),
                elf.order().name()
            ),
            dump: format!("{expected}, {}-endian", order.name()),
        };
    }
    if let Some((linked, found)) = build_ids(elf, memory) {
        if linked == found {
            return Agreement::Same;
        }
        let (mut kernel, mut dump) = (hex(&linked), hex(&found));
        // A build-id says which kernel it is to nobody but a debugger.
        if let Some(version) = linked_version(elf) {
            kernel += &format!(" ({})", escaped(text(&version), VERSION_LIMIT));
            let there = memory_version(elf, memory).unwrap_or_default();
            let there = version_in_words(text(&there), text(&version), header);
            dump += &format!(" ({there})");
        }
        return Agreement::Contradicts {
            what: "build-id",
            kernel,
            dump,
        };
    }
    let Some(linked) = linked_version(elf) else {
        let why = "it has no symbol `version` with contents".into();
        return Agreement::Unknown { why };
    };
    let linked = text(&linked);
    let found = match memory_version(elf, memory) {
        Ok(version) => version,
        Err(why) => match header.map(|h| text(&h.versionstring)) {
            Some(version) if !version.is_empty() => version.to_vec(),
            _ => return Agreement::Unknown { why },
        },
    };
    let found = text(&found);
    // A header has room for 191 bytes of it.
    if linked == found || (found.len() >= HEADER_ROOM && linked.starts_with(found)) {
        return Agreement::Same;
    }
    Agreement::Contradicts {
        what: "version",
        kernel: escaped(linked, VERSION_LIMIT),
        dump: version_in_words(found, linked, header),
    }
}

/// The version of a dump whose memory has `found` where another kernel has its own, `linked`: that
/// may be anything, and then the header tells.
fn version_in_words(found: &[u8], linked: &[u8], header: Option<&KernelDumpHeader>) -> String {
    let is_text = |bytes: &[u8]| {
        let plain = |b: &u8| b.is_ascii_graphic() || b.is_ascii_whitespace();
        bytes.len() >= SHORTEST_VERSION && bytes.iter().all(plain)
    };
    if is_text(found) {
        return escaped(found, VERSION_LIMIT);
    }
    match header.map(|h| text(&h.versionstring)) {
        Some(version) if is_text(version) && !linked.starts_with(version) => {
            escaped(version, VERSION_LIMIT)
        }
        _ => "not at the address that this kernel has it at".into(),
    }
}

/// The build-ids of both sides, if both have one: the kernel file's, and the one that the dump has
/// where the kernel file's note is loaded.
fn build_ids(elf: &KernelElf, (memory, far): Displaced<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let sections = Sections::read(&**elf.file()).ok()?;
    let (linked, address) = sections.build_id(&**elf.file())?;
    if address == 0 {
        return None;
    }
    // The note's head, its name and the id.
    let mut note = vec![0; 16 + linked.len()];
    let at = VirtAddr(address.wrapping_add(far));
    memory.read_virt(at, &mut note).ok()?;
    Some((
        linked,
        livecore_minidump::elf::sections::build_id_of_note(elf.order(), &note)?,
    ))
}

/// Bytes up to the first NUL, without white space behind them: a header's copy of the string may
/// be cut before its newline.
fn text(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    // `end` is at most the length.
    bytes[..end].trim_ascii_end()
}

fn linked_version(elf: &KernelElf) -> Option<Vec<u8>> {
    let symbol = elf.symbol("version").filter(|s| !s.absolute)?;
    let len = version_len(symbol.size);
    let contents = elf.bytes_at(symbol.value, len)?;
    (contents.in_file && !text(&contents.bytes).is_empty()).then_some(contents.bytes)
}

fn version_len(size: u64) -> usize {
    let known = usize::try_from(size).ok();
    known
        .filter(|n| (1..VERSION_LIMIT).contains(n))
        .unwrap_or(256)
}

/// `version` as the dump's memory has it.
fn memory_version(elf: &KernelElf, (memory, far): Displaced<'_>) -> Result<Vec<u8>, String> {
    let Some(symbol) = elf.symbol("version") else {
        return Err("it has no symbol `version`".into());
    };
    let mut bytes = vec![0; version_len(symbol.size)];
    memory
        .read_virt(VirtAddr(symbol.value.wrapping_add(far)), &mut bytes)
        .map_err(|e| format!("`version` cannot be read: {e}"))?;
    if text(&bytes).is_empty() {
        return Err("`version` is zeros in the dump".into());
    }
    Ok(bytes)
}
