//! `info.N`: what savecore(8) writes beside a dump.
//!
//! Text of fourteen lines, `name: value`, all but the first indented by two spaces (FreeBSD
//! `sbin/savecore/savecore.c`). The version string stands as it is in the header and brings its own
//! newline; it may hold others.

use livecore_compress::Codec;

use crate::KernelDumpHeader;
use crate::kerneldump::Magic;

/// The text of an info file, parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// Where the dump came from; `/dev/mem` for a live dump.
    pub device: String,
    /// The header's `architecture`.
    pub architecture: String,
    /// The header's `architectureversion`.
    pub architecture_version: u32,
    /// The header's `dumplength`.
    pub dump_length: u64,
    /// The header's `blocksize`.
    pub blocksize: u32,
    /// The header's compression; `None` if the text is none of `none`, `gzip`, `zstd`.
    pub compression: Option<Codec>,
    /// The time as it is printed.
    pub dumptime: String,
    /// The header's `hostname`.
    pub hostname: String,
    /// The header's magic.
    pub magic: String,
    /// The header's `versionstring`, its newline included.
    pub version_string: String,
    /// The header's `panicstring`.
    pub panic_string: String,
    /// The parity's four bytes, as the machine that ran savecore(8) loaded them.
    pub parity: Option<u32>,
    /// The number in the file's name.
    pub bounds: Option<u64>,
    /// `good`, `bad` or `unknown`.
    pub status: String,
}

const DEVICE: &str = "Dump header from device: ";
const VERSION: &str = "  Version String: ";
const PANIC: &str = "  Panic String: ";

/// The most bytes of an info file that are looked at.
pub const MAX_LEN: u64 = 64 * 1024;

impl Info {
    /// Parses an info file; `None` if the text is no such thing, or lacks its length.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(DEVICE)?;
        let (device, rest) = text.split_once('\n')?;
        let mut info = Self {
            device: device.into(),
            ..Self::default()
        };
        // The version string may have several lines: it ends where the panic string begins.
        let (before, version, after) = match rest.find(VERSION) {
            Some(at) => {
                let tail = &rest[at + VERSION.len()..];
                let end = tail.find(PANIC).unwrap_or(tail.len());
                (&rest[..at], &tail[..end], &tail[end..])
            }
            None => (rest, "", ""),
        };
        info.version_string = version.into();
        let mut length = None;
        for line in before.lines().chain(after.lines()) {
            // A panic string may hold anything, but each line begins with its own name.
            let Some((name, value)) = line.strip_prefix("  ").and_then(|l| l.split_once(": "))
            else {
                continue;
            };
            let value_string = || value.to_string();
            match name {
                "Architecture" => info.architecture = value_string(),
                "Architecture Version" => info.architecture_version = value.parse().ok()?,
                "Dump Length" => length = Some(value.parse().ok()?),
                "Blocksize" => info.blocksize = value.parse().ok()?,
                "Compression" => info.compression = codec(value),
                "Dumptime" => info.dumptime = value_string(),
                "Hostname" => info.hostname = value_string(),
                "Magic" => info.magic = value_string(),
                "Panic String" => info.panic_string = value_string(),
                "Dump Parity" => info.parity = value.parse().ok(),
                "Bounds" => info.bounds = value.parse().ok(),
                "Dump Status" => info.status = value_string(),
                _ => {}
            }
        }
        info.dump_length = length?;
        Some(info)
    }

    /// When the dump was taken, in seconds since 1970 UTC. The form of 12.1 has no time zone: that
    /// is taken for UTC.
    pub fn seconds(&self) -> Option<u64> {
        seconds(&self.dumptime)
    }

    /// A header with what the text says. `dumpextent` is what it does not say: the caller's
    /// business; here it is `dumplength`.
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

/// The text of an info file for `header`. `dumptime` is the header's time in the caller's local
/// time, as `%F %T %z` prints it; `status` is `good`, `bad` or `unknown`.
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
        // Printed as a signed number, which matters to no dump.
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

fn codec(name: &str) -> Option<Codec> {
    [Codec::None, Codec::Gzip, Codec::Zstd]
        .into_iter()
        .find(|c| c.name() == name)
}

/// `2024-05-01 12:00:00 +0200`, or ctime(3)'s `Wed May  1 12:00:00 2024`.
fn seconds(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let (year, month, day, clock, zone) = match words[..] {
        [date, clock, zone] => {
            let mut parts = date.splitn(3, '-').map(|p| p.parse::<i64>().ok());
            (parts.next()??, parts.next()??, parts.next()??, clock, zone)
        }
        [_, month, day, clock, year] => (
            year.parse().ok()?,
            MONTHS.iter().position(|m| *m == month)? as i64 + 1,
            day.parse().ok()?,
            clock,
            "+0000",
        ),
        _ => return None,
    };
    let mut parts = clock.splitn(3, ':').map(|p| p.parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let zone: i64 = zone.get(1..5)?.parse().ok()?;
    let offset = sign * (zone / 100 * 3600 + zone % 100 * 60);
    if !(1970..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || !(0..24).contains(&hour)
        || !(0..60).contains(&minute)
        || !(0..=60).contains(&second)
    {
        return None;
    }
    let days = days_since_1970(year, month, day);
    u64::try_from(days * 86400 + hour * 3600 + minute * 60 + second - offset).ok()
}

/// Days of the proleptic Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    // 719468 days from 0000-03-01 to 1970-01-01.
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Dump header from device: /dev/mem
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
    fn every_line_is_read_and_a_version_may_have_two() {
        let info = Info::parse(TEXT).unwrap();
        assert_eq!(info.device, "/dev/mem");
        assert_eq!(info.dump_length, 107_388_928);
        assert_eq!(info.compression, Some(Codec::Zstd));
        assert_eq!(info.hostname, "host.example");
        assert_eq!(info.panic_string, "sysctl:  kdb");
        assert_eq!((info.bounds, info.status.as_str()), (Some(3), "good"));
        assert_eq!(
            info.version_string,
            "FreeBSD 14.1-RELEASE\n    root@builder:/usr/obj/GENERIC\n"
        );
    }

    #[test]
    fn what_is_rendered_is_what_was_read() {
        let info = Info::parse(TEXT).unwrap();
        let mut header = info.to_header();
        header.parity = 648_160_836_u32.to_ne_bytes();
        assert_eq!(render(&header, "/dev/mem", 3, "good", &info.dumptime), TEXT);
    }

    /// Seconds from GNU date: `date -u -d '2024-05-01 10:00' +%s`, `date -u -d '2000-02-29' +%s`.
    #[test]
    fn both_forms_of_time_are_read() {
        assert_eq!(seconds("2024-05-01 12:00:00 +0200"), Some(1_714_557_600));
        assert_eq!(seconds("Wed May  1 10:00:00 2024"), Some(1_714_557_600));
        assert_eq!(seconds("2000-02-29 00:00:00 +0000"), Some(951_782_400));
        assert_eq!(seconds("1970-01-01 00:00:00 +0100"), None);
        for bad in [
            "",
            "now",
            "2024-13-01 12:00:00 +0200",
            "2024-05-01 12:00 +0200",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn other_texts_are_no_info() {
        assert_eq!(Info::parse("Dump from host [1.2.3.4]\n"), None);
        assert_eq!(Info::parse("Dump header from device: x\n"), None);
        assert_eq!(Info::parse(&TEXT.replace("107388928", "-1")), None);
    }
}
