//! `info.N`, the text file that savecore(8) and netdumpd(8) write with each dump.
//!
//! savecore writes fourteen lines of text, `name: value`, all but the first indented by two spaces
//! (FreeBSD `sbin/savecore/savecore.c`). The version string is copied from the header: it ends with
//! a newline and may contain more. [`Info::parse`] reads all known formats.

mod file;
mod parse;
mod time;

pub(crate) use file::{InfoFile, find};
pub use file::{name_after_prefix, number, path_of, read};
pub use time::utc;

use livecore_compress::Codec;

use crate::KernelDumpHeader;
use crate::kerneldump::Magic;

/// The text of an info file, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// Origin of the dump: a device, `/dev/mem` for a live dump, the host of a network dump.
    pub device: String,
    /// The header's `architecture`.
    pub architecture: String,
    /// The header's `architectureversion`.
    pub architecture_version: u32,
    /// The header's `dumplength`.
    pub dump_length: u64,
    /// The header's `blocksize`.
    pub blocksize: u32,
    /// The header's compression; `None` if the name is unknown. Kernels without compressed dumps
    /// have no such line, which means `none`.
    pub compression: Option<Codec>,
    /// The time of the dump as text.
    pub dumptime: String,
    /// The header's `hostname`.
    pub hostname: String,
    /// The header's magic.
    pub magic: String,
    /// The header's `versionstring`, with its newline.
    pub version_string: String,
    /// The header's `panicstring`.
    pub panic_string: String,
    /// The four bytes of the parity in the byte order of the machine that ran savecore(8).
    pub parity: Option<u32>,
    /// The number in the file's name.
    pub bounds: Option<u64>,
    /// `good`, `bad` or `unknown`.
    pub status: String,
}

const DEVICE: &str = "Dump header from device: ";
const VERSION: &str = "  Version String: ";
const PANIC: &str = "  Panic String: ";

/// Maximum size of an info file in bytes.
pub const MAX_LEN: u64 = 64 * 1024;

impl Info {
    /// Time of the dump in seconds since 1970 UTC. The format of 12.1 has no time zone; UTC is
    /// assumed.
    pub fn seconds(&self) -> Option<u64> {
        time::seconds(&self.dumptime)
    }

    /// Creates a header from the text. The text has no `dumpextent`, so it is set to `dumplength`;
    /// callers that know the extent replace it.
    pub fn to_header(&self) -> KernelDumpHeader {
        KernelDumpHeader {
            magic: [Magic::Text, Magic::Cleared]
                .into_iter()
                .find(|m| m.text() == self.magic)
                .unwrap_or_default(),
            architecture: self.architecture.clone().into(),
            architectureversion: self.architecture_version,
            dumplength: self.dump_length,
            dumpextent: self.dump_length,
            dumptime: self.seconds().unwrap_or(0),
            blocksize: self.blocksize,
            hostname: self.hostname.clone().into(),
            versionstring: self.version_string.clone().into(),
            panicstring: self.panic_string.clone().into(),
            compression: self.compression.map_or(0, KernelDumpHeader::compression_of),
            ..KernelDumpHeader::default()
        }
        .with_parity()
    }
}

/// Formats an info file for `header`. `dumptime` is the header's time in the caller's time zone,
/// in the format `%F %T %z`; `status` is `good`, `bad` or `unknown`.
pub fn render(
    header: &KernelDumpHeader,
    device: &str,
    bounds: u64,
    status: &str,
    dumptime: &str,
) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut version = text(&header.versionstring);
    if !version.ends_with('\n') {
        version.push('\n');
    }
    let parity = u32::from_ne_bytes(header.parity);
    let compression = header.codec().map_or("???", Codec::name);
    let lines = [
        ("Architecture", text(&header.architecture)),
        (
            "Architecture Version",
            header.architectureversion.to_string(),
        ),
        // savecore prints a signed number; no dump is that large.
        ("Dump Length", header.dumplength.to_string()),
        ("Blocksize", header.blocksize.to_string()),
        ("Compression", compression.to_string()),
        ("Dumptime", dumptime.to_string()),
        ("Hostname", text(&header.hostname)),
        ("Magic", header.magic.text().to_string()),
    ];
    let mut out = format!("{DEVICE}{device}\n");
    for (name, value) in lines {
        out.push_str(&format!("  {name}: {value}\n"));
    }
    out.push_str(&format!(
        "{VERSION}{version}{PANIC}{}\n",
        text(&header.panicstring)
    ));
    for (name, value) in [
        ("Dump Parity", parity.to_string()),
        ("Bounds", bounds.to_string()),
        ("Dump Status", status.to_string()),
    ] {
        out.push_str(&format!("  {name}: {value}\n"));
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(super) const TEXT: &str = "Dump header from device: /dev/mem
  Architecture: amd64
  Architecture Version: 2
  Dump Length: 107388928
  Blocksize: 4096
  Compression: zstd
  Dumptime: 2024-05-01 12:00:00 +0200
  Hostname: host.example
  Magic: FreeBSD Kernel Dump
  Version String: FreeBSD 14.1-RELEASE
    root@builder:/usr/obj/GENERIC
  Panic String: sysctl: \u{20}kdb
  Dump Parity: 648160836
  Bounds: 3
  Dump Status: good
";

    #[test]
    fn rendered_text_equals_parsed_text() {
        let info = Info::parse(TEXT).unwrap();
        let mut header = info.to_header();
        header.parity = 648_160_836_u32.to_ne_bytes();
        assert_eq!(render(&header, "/dev/mem", 3, "good", &info.dumptime), TEXT);
    }
}
