//! The text of `info.N`, as savecore(8) writes it.

use std::net::IpAddr;

use jiff::{Timestamp, tz::TimeZone};
use livecore_compress::Codec;
use livecore_defs::text::printable;
use livecore_minidump::KernelDumpHeader;
use livecore_minidump::convert::Written;

/// The text for dump `number` of `device`, with times in the system's time zone.
pub fn text(header: &KernelDumpHeader, device: &str, number: u32) -> String {
    with_status(header, device, number, "good")
}

/// The text with `status`: `good`, or `bad` if the headers were not consistent.
pub fn with_status(header: &KernelDumpHeader, device: &str, number: u32, status: &str) -> String {
    text_in(header, device, number, status, TimeZone::system())
}

/// The text for a dump that was written, followed by its provenance.
pub fn of_written(written: &Written, device: &str, number: u32) -> String {
    text(&written.header, device, number) + &written.provenance.info_lines()
}

fn text_in(
    header: &KernelDumpHeader,
    device: &str,
    number: u32,
    status: &str,
    zone: TimeZone,
) -> String {
    let time = time(header, zone);
    livecore_minidump::info::render(header, device, number.into(), status, &time)
}

fn time(header: &KernelDumpHeader, zone: TimeZone) -> String {
    i64::try_from(header.dumptime)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        // A time out of range is printed as a number.
        .map_or_else(
            || header.dumptime.to_string(),
            |time| time.to_zoned(zone).strftime("%F %T %z").to_string(),
        )
}

/// The lines of netdumpd for a dump from `host`, up to its last line, which states whether the dump is
/// complete. The strings of the header come from the network: of each, the first line.
pub(crate) fn of_host(header: &KernelDumpHeader, host: &str, address: IpAddr) -> String {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        printable(text.lines().next().unwrap_or_default()).to_string()
    };
    let length = header.dumplength;
    let parity = if header.parity_ok { "Pass" } else { "Fail" };
    let rows = [
        ("Architecture", text(&header.architecture)),
        (
            "Architecture version",
            header.architectureversion.to_string(),
        ),
        ("Dump length", format!("{length}B ({} MB)", length >> 20)),
        ("Blocksize", header.blocksize.to_string()),
        (
            "Compression",
            header.codec().map_or("???", Codec::name).into(),
        ),
        ("Dumptime", time(header, TimeZone::system())),
        ("Hostname", text(&header.hostname)),
        ("Versionstring", text(&header.versionstring)),
        ("Panicstring", text(&header.panicstring)),
        ("Header parity check", parity.into()),
    ];
    let rows = rows.map(|(name, value)| format!("  {name}: {value}\n"));
    format!("Dump from {host} [{address}]\n{}", rows.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_match_savecore_in_local_time() {
        let header = KernelDumpHeader {
            version: 4,
            architecture: b"amd64".to_vec(),
            architectureversion: 2,
            dumplength: 1234,
            dumptime: 1_714_557_600,
            blocksize: 4096,
            hostname: b"host.example".to_vec(),
            versionstring: b"FreeBSD 14.0-RELEASE\n".to_vec(),
            compression: 2,
            parity: 7_u32.to_ne_bytes(),
            ..KernelDumpHeader::default()
        };
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            text_in(&header, "/dev/mem", 3, "good", zone),
            "Dump header from device: /dev/mem\n  \
               Architecture: amd64\n  \
               Architecture Version: 2\n  \
               Dump Length: 1234\n  \
               Blocksize: 4096\n  \
               Compression: zstd\n  \
               Dumptime: 2024-05-01 12:00:00 +0200\n  \
               Hostname: host.example\n  \
               Magic: FreeBSD Kernel Dump\n  \
               Version String: FreeBSD 14.0-RELEASE\n  \
               Panic String: \n  \
               Dump Parity: 7\n  \
               Bounds: 3\n  \
               Dump Status: good\n"
        );
    }
}
