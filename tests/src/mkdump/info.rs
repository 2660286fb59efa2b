//! `info.N`, the text that savecore writes for a dump.
//!
//! FreeBSD `sbin/savecore/savecore.c`. Times are shown in UTC.

use super::error::{BuildError, Result};
use super::recipe::Info;
use super::seal;

/// The text for `header`, with the recipe's changes applied.
pub(crate) fn text(info: &Info, header: &[u8; seal::SIZE], version: u32) -> Result<String> {
    let mut text = original(info, header, version);
    for (line, old, new) in &info.rewords {
        if !text.contains(old.as_str()) {
            let (line, name) = (*line, old.clone());
            return Err(BuildError::UnknownName {
                line,
                kind: "text in the info file",
                name,
            });
        }
        text = text.replacen(old.as_str(), new, 1);
    }
    Ok(text)
}

fn original(info: &Info, header: &[u8; seal::SIZE], version: u32) -> String {
    let number = |name: &str| seal::get_number(header, version, name);
    let string = |name: &str| seal::get_text(header, version, name);
    let compression = match number("compression") {
        0 => "none",
        1 => "gzip",
        2 => "zstd",
        _ => "???",
    };
    let time = time(number("dumptime"), info.ctime);
    let parity = u32::from_le_bytes([header[508], header[509], header[510], header[511]]);
    format!(
        "Dump header from device: {}\n  Architecture: {}\n  Architecture Version: {}\n  \
         Dump Length: {}\n  Blocksize: {}\n  Compression: {compression}\n  Dumptime: {time}\n  \
         Hostname: {}\n  Magic: {}\n  Version String: {}  Panic String: {}\n  \
         Dump Parity: {parity}\n  Bounds: {}\n  Dump Status: {}\n",
        info.device,
        string("architecture"),
        number("architectureversion"),
        // Printed as signed.
        number("dumplength") as i64,
        number("blocksize"),
        string("hostname"),
        string("magic"),
        string("versionstring"),
        string("panicstring"),
        info.bounds,
        info.status,
    )
}

fn time(seconds: u64, ctime: bool) -> String {
    let days = (seconds / 86400) as i64;
    let (h, m, s) = (seconds % 86400 / 3600, seconds % 3600 / 60, seconds % 60);
    let (year, month, day) = date(days);
    if ctime {
        let weekday = &"ThuFriSatSunMonTueWed"[(days % 7) as usize * 3..][..3];
        let name = &"JanFebMarAprMayJunJulAugSepOctNovDec"[(month as usize - 1) * 3..][..3];
        return format!("{weekday} {name} {day:2} {h:02}:{m:02}:{s:02} {year}");
    }
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} +0000")
}

/// Year, month and day from days since 1970.
fn date(mut days: i64) -> (i64, i64, i64) {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    // 400 years have 146097 days.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + i64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from GNU date.
    #[test]
    fn times_match_gnu_date() {
        assert_eq!(time(1_700_000_000, false), "2023-11-14 22:13:20 +0000");
        assert_eq!(time(1_714_557_600, true), "Wed May  1 10:00:00 2024");
        assert_eq!(time(951_782_400, false), "2000-02-29 00:00:00 +0000");
        assert_eq!(time(0, true), "Thu Jan  1 00:00:00 1970");
    }
}
