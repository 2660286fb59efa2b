//! Parses and formats the time of a dump.

/// Parses `2024-05-01 12:00:00 +0200` or `Wed May  1 12:00:00 2024` (ctime(3)) into seconds since
/// 1970.
pub(super) fn seconds(text: &str) -> Option<u64> {
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

/// Formats seconds since 1970 as `2024-05-01 10:00:00 UTC`.
pub fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86400, seconds % 86400);
    // The calendar repeats every 400 years, which have 146097 days.
    let (era, mut day) = (days / 146_097, days % 146_097);
    let mut year = 1970;
    let in_era = |year, month| days_since_1970(year, month, 1) as u64;
    while in_era(year + 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| in_era(year, *month) <= day);
    let month = month.unwrap_or(1);
    day -= in_era(year, month);
    format!(
        "{:04}-{month:02}-{:02} {:02}:{:02}:{:02} UTC",
        year as u64 + 400 * era,
        day + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
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

    /// Texts from GNU date: `date -u -d @951782399`.
    #[test]
    fn utc_formats_a_date() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_714_557_600, "2024-05-01 10:00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (12_622_780_800, "2370-01-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
            assert_eq!(
                super::seconds(&text.replace("UTC", "+0000")),
                (seconds > 0).then_some(seconds).or(Some(0))
            );
        }
        assert!(utc(u64::MAX).ends_with("UTC"));
    }

    /// Seconds from GNU date: `date -u -d '2024-05-01 10:00' +%s`, `date -u -d '2000-02-29' +%s`.
    #[test]
    fn both_time_formats_are_parsed() {
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
}
