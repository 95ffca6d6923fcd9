//! Days and dates in UTC, and spans of time as people write them.

use crate::error::KeysError;

/// Seconds of a day.
pub(crate) const DAY_S: u64 = 86_400;

/// Days since 1970-01-01.
pub(crate) fn day_of(unix_s: u64) -> i64 {
    i64::try_from(unix_s / DAY_S).unwrap_or(i64::MAX)
}

/// Year, month and day (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(day: i64) -> (i64, i64, i64) {
    let z = day.clamp(-700_000, 100_000_000) + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (yoe + era * 400 + i64::from(m <= 2), m, d)
}

fn day_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// `2026-01-31`.
pub fn date_text(day: i64) -> String {
    let (y, m, d) = civil(day);
    format!("{y:04}-{m:02}-{d:02}")
}

/// `2026-01-31T12:00:00Z`.
pub fn time_text(unix_s: u64) -> String {
    let s = unix_s % DAY_S;
    format!("{}T{:02}:{:02}:{:02}Z", date_text(day_of(unix_s)), s / 3600, s / 60 % 60, s % 60)
}

/// The day of `2026-01-31`, or the day that lies so long before `now_s` (`7d`).
///
/// # Errors
/// Neither a date nor a span.
pub fn parse_date(text: &str, now_s: u64) -> Result<i64, KeysError> {
    let parts: Vec<Option<i64>> = text.split('-').map(|p| p.parse().ok().filter(|_| p.len() <= 4)).collect();
    if let [Some(y), Some(m), Some(d)] = parts[..] {
        let day = day_from_civil(y, m, d);
        if (1970..=9999).contains(&y) && civil(day) == (y, m, d) {
            return Ok(day);
        }
    } else if let Ok(span) = parse_span_s(text) {
        return Ok(day_of(now_s.saturating_sub(span)));
    }
    Err(KeysError::Invalid(format!("{text:?} is no day; write 2026-01-31, or 7d for the last seven days")))
}

/// `30d`, `12h`, `15m`, `90s` or `0`, in seconds.
///
/// # Errors
/// Anything else.
pub fn parse_span_s(text: &str) -> Result<u64, KeysError> {
    let bad = || KeysError::Invalid(format!("{text:?} is no span of time; write 30d, 12h, 15m or 90s"));
    if text == "0" {
        return Ok(0);
    }
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let unit_s = match unit {
        "d" => DAY_S,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit())).ok_or_else(bad)?;
    let span = number.checked_mul(unit_s).filter(|s| *s <= base::limits::KEY_SPAN_S_MAX);
    span.ok_or_else(|| {
        let most = base::limits::KEY_SPAN_S_MAX / DAY_S;
        KeysError::Invalid(format!("{text:?} is too long; at most {most}d"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn dates_go_there_and_back() {
        for (day, text) in [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_454, "2026-01-01")] {
            assert_eq!(date_text(day), text);
            assert_eq!(parse_date(text, 0).unwrap(), day);
        }
        for day in (0..200_000).step_by(13) {
            assert_eq!(parse_date(&date_text(day), 0).unwrap(), day);
        }
        assert_eq!(time_text(20_454 * DAY_S + 3661), "2026-01-01T01:01:01Z");
        assert_eq!(parse_date("2d", 20_454 * DAY_S + 5).unwrap(), 20_452);
        for bad in ["2026-02-29", "2026-13-01", "2026-00-01", "x", "", "2026-01", "-1-1-1", "20260-1-1", "+1d"] {
            assert!(parse_date(bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans() {
        for (text, s) in [("30d", 2_592_000), ("12h", 43_200), ("15m", 900), ("90s", 90), ("0", 0), ("0d", 0)] {
            assert_eq!(parse_span_s(text).unwrap(), s);
        }
        for bad in ["", "d", "1", "-1d", "+1d", "1.5d", "1w", "1é", "99999999999999999999d", "1000000d"] {
            assert!(parse_span_s(bad).is_err(), "{bad}");
        }
    }
}
