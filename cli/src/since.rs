//! The values of `--since`: a time, or a duration before now.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Parses a number with the unit `s`, `m`, `h`, `d` or `w` (before now), a date, or a date and a time.
/// Without an offset from UTC, it is local time.
pub(crate) fn parse_since(text: &str) -> Result<SystemTime, String> {
    if let Some(age) = duration(text) {
        let since = SystemTime::now().checked_sub(age);
        return since.ok_or_else(|| format!("{text} before now is out of range"));
    }
    let time = match text.parse::<Timestamp>() {
        Ok(time) => Some(time),
        Err(_) => local(text),
    };
    time.map(SystemTime::from).ok_or_else(|| {
        "expected a duration such as 36h or 1d, or a time such as 2026-11-30 or \
         2026-11-30T04:00:00Z"
            .into()
    })
}

fn local(text: &str) -> Option<Timestamp> {
    let time = text.parse::<DateTime>().ok()?;
    let time = time.to_zoned(TimeZone::system()).ok()?;
    Some(time.timestamp())
}

fn duration(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.char_indices().next_back()? {
        (at, 's') => (&text[..at], 1),
        (at, 'm') => (&text[..at], 60),
        (at, 'h') => (&text[..at], 3600),
        (at, 'd') => (&text[..at], 86_400),
        (at, 'w') => (&text[..at], 7 * 86_400),
        _ => return None,
    };
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> u64 {
        let time = parse_since(text).unwrap();
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    }

    #[test]
    fn durations_are_before_now() {
        let now = Timestamp::now().as_second() as u64;
        for (text, age) in [
            ("90s", 90),
            ("5m", 300),
            ("36h", 129_600),
            ("1d", 86_400),
            ("2w", 1_209_600),
        ] {
            let found = now - seconds(text);
            assert!((age - 60..=age + 60).contains(&found), "{text}: {found}");
        }
    }

    #[test]
    fn times_have_an_offset_or_are_local() {
        assert_eq!(seconds("2020-01-01T00:00:00Z"), 1_577_836_800);
        assert_eq!(seconds("2020-01-01T01:00:00+01:00"), 1_577_836_800);
        let local = seconds("2020-01-01");
        assert!(local.abs_diff(1_577_836_800) <= 14 * 3600);
        assert_eq!(seconds("2020-01-01 00:00"), local);
    }

    #[test]
    fn other_texts_are_errors() {
        for text in [
            "",
            "1",
            "d",
            "-1d",
            "+1d",
            "1.5h",
            "yesterday",
            "2020-13-01",
            "99999999999999999999w",
            "18446744073709551615s",
        ] {
            assert!(parse_since(text).is_err(), "{text}");
        }
    }
}
