//! Checks whether a kernel file is the kernel of a dump.
//!
//! If the file and the dump both have a linker build-id, it decides. The build-id is part of the
//! kernel image, and debug files have it too. Otherwise, the kernel's `version` string is compared
//! with the dump's memory: it differs between builds, and the kernel never writes to it. If memory
//! does not have it, it is compared with `versionstring` of the dump's header.

use crate::kernel::displacement;
use livecore_defs::text::escaped;
use livecore_defs::text::hex;
use livecore_minidump::elf::sections::Sections;
use livecore_minidump::{
    Architecture, ByteOrder, Dump, FullDump, KernelDumpHeader, KernelElf, KernelMemory, VirtAddr,
};

/// The maximum number of bytes of `version`. FreeBSD `sys/conf/newvers.sh` writes about 150.
const VERSION_LIMIT: usize = 1024;

/// The maximum length of `versionstring` in a kerneldumpheader, without NUL.
const HEADER_VERSION_MAX: usize = 191;

/// The minimum length of a version: `FreeBSD` and a space.
const SHORTEST_VERSION: usize = 8;

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// The file is the kernel of the dump.
    Same,
    /// The file is another kernel.
    Contradicts {
        /// The property that differs: `architecture`, `build-id` or `version`.
        what: &'static str,
        /// The kernel file's value, printable.
        kernel: String,
        /// The dump's value, printable.
        dump: String,
    },
    /// The file and the dump have no property in common that can be compared.
    Unknown {
        /// The reason.
        why: String,
    },
}

/// Compares a kernel file with a dump.
pub(crate) fn compare(elf: &KernelElf, dump: &Dump) -> Agreement {
    let mini = dump.header();
    let memory = (dump as &dyn KernelMemory, displacement(dump));
    compare_with(
        elf,
        (mini.arch, mini.order),
        dump.envelope().kerneldumpheader(),
        memory,
    )
}

/// Compares a kernel file with a full dump. `memory` is the dump's memory by the kernel's page
/// tables.
pub(crate) fn compare_full(
    elf: &KernelElf,
    dump: &FullDump,
    memory: &dyn KernelMemory,
) -> Agreement {
    let memory = (memory, 0);
    compare_with(
        elf,
        (dump.arch(), dump.order()),
        dump.envelope().kerneldumpheader(),
        memory,
    )
}

/// Memory, and the displacement of the kernel in it from its linked address.
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
        // A version is more useful to a reader than a build-id.
        if let Some(version) = linked_version(elf) {
            kernel += &format!(" ({})", escaped(text(&version), VERSION_LIMIT));
            let other = memory_version(elf, memory).unwrap_or_default();
            let other = describe_version(text(&other), text(&version), header);
            dump += &format!(" ({other})");
        }
        return Agreement::Contradicts {
            what: "build-id",
            kernel,
            dump,
        };
    }
    let Some(linked) = linked_version(elf) else {
        let why = "the kernel file has no string `version`".into();
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
    // The header's copy may be truncated.
    if linked == found || (found.len() >= HEADER_VERSION_MAX && linked.starts_with(found)) {
        return Agreement::Same;
    }
    Agreement::Contradicts {
        what: "version",
        kernel: escaped(linked, VERSION_LIMIT),
        dump: describe_version(found, linked, header),
    }
}

/// Returns the dump's version for a message. `found` is the dump's memory at the address of the
/// kernel file's version, `linked`. If `found` is not text, uses the dump header's version.
fn describe_version(found: &[u8], linked: &[u8], header: Option<&KernelDumpHeader>) -> String {
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
        _ => "unknown (no version string at this kernel's address of `version`)".into(),
    }
}

/// Returns the kernel file's build-id, and the one in the dump at the address of the file's note,
/// if both exist.
fn build_ids(elf: &KernelElf, (memory, far): Displaced<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let sections = Sections::read(&**elf.file()).ok()?;
    let (linked, address) = sections.build_id(&**elf.file())?;
    if address == 0 {
        return None;
    }
    // The note's header, its name and the id.
    let mut note = vec![0; 16 + linked.len()];
    let at = VirtAddr(address.wrapping_add(far));
    memory.read_virt(at, &mut note).ok()?;
    Some((
        linked,
        livecore_minidump::elf::sections::build_id_of_note(elf.order(), &note)?,
    ))
}

/// Returns the bytes before the first NUL, without trailing white space. A header's copy of the
/// string may be truncated before its newline.
fn text(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    // `end` is at most the length.
    bytes[..end].trim_ascii_end()
}

fn linked_version(elf: &KernelElf) -> Option<Vec<u8>> {
    let symbol = elf.symbol("version").filter(|s| !s.absolute)?;
    let len = version_len(symbol.size);
    let contents = elf.bytes_at(VirtAddr(symbol.value), len)?;
    (contents.in_file && !text(&contents.bytes).is_empty()).then_some(contents.bytes)
}

fn version_len(size: u64) -> usize {
    let known = usize::try_from(size).ok();
    known
        .filter(|n| (1..VERSION_LIMIT).contains(n))
        .unwrap_or(256)
}

/// Reads `version` from the dump's memory.
fn memory_version(elf: &KernelElf, (memory, far): Displaced<'_>) -> Result<Vec<u8>, String> {
    let Some(symbol) = elf.symbol("version") else {
        return Err("the kernel file has no symbol `version`".into());
    };
    let mut bytes = vec![0; version_len(symbol.size)];
    memory
        .read_virt(VirtAddr(symbol.value.wrapping_add(far)), &mut bytes)
        .map_err(|e| format!("`version` cannot be read: {e}"))?;
    if text(&bytes).is_empty() {
        return Err("`version` is empty in the dump".into());
    }
    Ok(bytes)
}
