//! `strftime_now`: dates in UTC, of a time that the caller gives.

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment in UTC.
struct Moment {
    year: i64,
    /// 1..=12
    month: i64,
    /// 1..=31
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    /// 0 is Sunday.
    weekday: i64,
    /// 1..=366
    day_of_year: i64,
}

/// The Gregorian date of a count of seconds since 1970, by counting 400-year cycles that begin on the first of March.
fn moment(now_s: i64) -> Moment {
    let (days, second_of_day) = (now_s.div_euclid(86_400), now_s.rem_euclid(86_400));
    let shifted = days.saturating_add(719_468);
    let (cycle, day_of_cycle) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_march_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let march_month = (5 * day_of_march_year + 2) / 153;
    let day = day_of_march_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_cycle + cycle * 400 + i64::from(month <= 2);
    let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let before_march = 59 + i64::from(is_leap);
    let day_of_year = if month > 2 { day_of_march_year + before_march + 1 } else { day_of_march_year - 306 + 1 };
    Moment {
        year,
        month,
        day,
        hour: second_of_day / 3600,
        minute: second_of_day / 60 % 60,
        second: second_of_day % 60,
        weekday: (days.rem_euclid(7) + 4) % 7,
        day_of_year,
    }
}

/// The time in C's `strftime` notation; `%-d` leaves zeros out. What is not understood stays as it is.
pub(super) fn strftime(now_s: i64, format: &str) -> String {
    let m = moment(now_s);
    let name =
        |names: &[&'static str], i: i64| usize::try_from(i).ok().and_then(|i| names.get(i).copied()).unwrap_or("");
    let (day_name, month_name) = (name(&DAYS, m.weekday), name(&MONTHS, m.month - 1));
    let hour12 = if m.hour % 12 == 0 { 12 } else { m.hour % 12 };
    let mut out = String::new();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let bare = rest.next_if_eq(&'-').is_some();
        let two = |n: i64| if bare { n.to_string() } else { format!("{n:02}") };
        let part = match rest.next() {
            Some('Y') => m.year.to_string(),
            Some('y') => two(m.year.rem_euclid(100)),
            Some('m') => two(m.month),
            Some('d') => two(m.day),
            Some('e') => format!("{:2}", m.day),
            Some('H') => two(m.hour),
            Some('I') => two(hour12),
            Some('M') => two(m.minute),
            Some('S') => two(m.second),
            Some('j') => {
                if bare {
                    m.day_of_year.to_string()
                } else {
                    format!("{:03}", m.day_of_year)
                }
            }
            Some('A') => day_name.to_string(),
            Some('a') => day_name.chars().take(3).collect(),
            Some('B') => month_name.to_string(),
            Some('b' | 'h') => month_name.chars().take(3).collect(),
            Some('p') => if m.hour < 12 { "AM" } else { "PM" }.to_string(),
            Some('F') => format!("{}-{:02}-{:02}", m.year, m.month, m.day),
            Some('T') => format!("{:02}:{:02}:{:02}", m.hour, m.minute, m.second),
            Some('D') => format!("{:02}/{:02}/{:02}", m.month, m.day, m.year.rem_euclid(100)),
            Some('u') => if m.weekday == 0 { 7 } else { m.weekday }.to_string(),
            Some('w') => m.weekday.to_string(),
            Some('Z') => "UTC".to_string(),
            Some('z') => "+0000".to_string(),
            Some('s') => now_s.to_string(),
            Some('%') => "%".to_string(),
            Some(other) => format!("%{other}"),
            None => "%".to_string(),
        };
        out.push_str(&part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates_of_known_moments() {
        let all = "%Y-%m-%d %H:%M:%S %A %b %j";
        assert_eq!(strftime(0, all), "1970-01-01 00:00:00 Thursday Jan 001");
        assert_eq!(strftime(951_782_399, all), "2000-02-28 23:59:59 Monday Feb 059");
        assert_eq!(strftime(951_868_799, all), "2000-02-29 23:59:59 Tuesday Feb 060");
        assert_eq!(strftime(1_735_689_599, all), "2024-12-31 23:59:59 Tuesday Dec 366");
        assert_eq!(strftime(-1, all), "1969-12-31 23:59:59 Wednesday Dec 365");
        assert_eq!(strftime(1_721_900_000, "%-d %B %y, %I %p %%"), "25 July 24, 09 AM %");
        let _ = strftime(i64::MAX, all) + &strftime(i64::MIN, all);
    }
}
