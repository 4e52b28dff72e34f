//! Times in flow-label files.

const SECOND: i64 = 1_000_000_000;

/// The time format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// `2011/08/10 09:46:53.047277`, local time, `utc_offset` nanoseconds ahead of UTC.
    Netflow { utc_offset: i64 },
    /// `2011-08-10T09:46:53.047277Z`, or with a space instead of the T; with `Z` or an explicit offset, otherwise local
    /// time.
    Iso8601 { utc_offset: i64 },
    /// Seconds since 1970-01-01 UTC, with decimals.
    EpochSeconds,
}

impl Clock {
    /// Parses a time to nanoseconds since the Unix epoch.
    pub(super) fn parse(self, text: &str) -> Option<i64> {
        let text = text.trim();
        match self {
            Clock::Netflow { utc_offset } => civil(text, '/', ' ')?.checked_sub(utc_offset),
            Clock::Iso8601 { utc_offset } => {
                let (plain, offset) = split_offset(text, utc_offset)?;
                let separator = if plain.contains('T') { 'T' } else { ' ' };
                civil(plain, '-', separator)?.checked_sub(offset)
            }
            Clock::EpochSeconds => decimal_seconds(text),
        }
    }
}

/// Parses a UTC offset (`+02:00`, `+0200` or `+02`) to nanoseconds.
pub(super) fn parse_offset(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let text = text.get(1..)?;
    let (hours, minutes) = match (text.split_once(':'), text.len()) {
        (Some(pair), _) => pair,
        (None, 4) if text.is_ascii() => text.split_at(2),
        (None, 2) => (text, "0"),
        _ => return None,
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then(|| sign * (hours * 60 + minutes) * 60 * SECOND)
}

/// Parses non-negative decimal seconds to nanoseconds exactly, with or without an exponent (`1.7e+09`); digits past the
/// ninth decimal are dropped.
pub(super) fn decimal_seconds(text: &str) -> Option<i64> {
    let (number, exponent) = match text.find(['e', 'E']) {
        Some(place) => (&text[..place], text[place + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if exponent == 0 {
        return digits(whole)?.checked_mul(SECOND)?.checked_add(nanoseconds(fraction)?);
    }
    // Shift the decimal point by the exponent.
    let all = format!("{whole}{fraction}");
    digits(whole)?;
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let moved = match usize::try_from(point) {
        Ok(point) if point >= all.len() => format!("{all}{}", "0".repeat((point - all.len()).min(20))),
        Ok(point) if all.is_char_boundary(point) => format!("{}.{}", &all[..point], &all[point..]),
        Ok(_) => return None,
        Err(_) => format!(".{}{all}", "0".repeat(point.unsigned_abs().min(20) as usize)),
    };
    let (whole, fraction) = moved.split_once('.').unwrap_or((&moved, ""));
    let whole = if whole.is_empty() { 0 } else { digits(whole)? };
    whole.checked_mul(SECOND)?.checked_add(nanoseconds(fraction)?)
}

/// Parses a duration to nanoseconds. An empty field and `-` (Zeek) count as zero, and so do negative durations, which
/// Argus and softflowd write if clocks disagree.
pub(super) fn duration(text: &str) -> Option<i64> {
    match text {
        "" | "-" | "(empty)" => Some(0),
        _ => match text.strip_prefix('-') {
            Some(positive) => decimal_seconds(positive).map(|_| 0),
            None => decimal_seconds(text),
        },
    }
}

/// Suggests how to correct a text that could not be parsed as a time.
pub(super) fn advice(text: &str, clock: Clock) -> &'static str {
    let half_days = ["AM", "PM", "am", "pm"].iter().any(|half| text.ends_with(half));
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let whole = text.split('.').next().unwrap_or(text).len();
    match clock {
        _ if half_days => " (12-hour clocks are not supported; write times as 2011-08-10T21:46:53)",
        Clock::EpochSeconds if is_number && whole == 13 => " (milliseconds? expected seconds; divide by 1000)",
        Clock::EpochSeconds if is_number && whole == 16 => " (microseconds? expected seconds; divide by 1000000)",
        Clock::EpochSeconds if text.contains('-') => " (set `time = \"iso8601\"` in [flow_labels]?)",
        Clock::EpochSeconds if text.contains('/') => " (set `time = \"netflow\"` in [flow_labels]?)",
        Clock::Netflow { .. } if text.contains('-') => {
            " (expected 2011/08/10 09:46:53; for 2011-08-10 use `format = \"csv\"` with `time = \"iso8601\"`)"
        }
        Clock::Netflow { .. } | Clock::Iso8601 { .. } if is_number => {
            " (seconds since 1970? use `format = \"csv\"` with `time = \"epoch_seconds\"`)"
        }
        _ => "",
    }
}

/// Parses `2019-04-12T16:34:07.5` to nanoseconds since the Unix epoch, ignoring time zones.
pub(crate) fn civil_time(text: &str) -> Option<i64> {
    civil(text, '-', 'T')
}

fn split_offset(text: &str, otherwise: i64) -> Option<(&str, i64)> {
    for zone in ["Z", "z", "UTC", "GMT"] {
        if let Some(plain) = text.strip_suffix(zone) {
            return Some((plain.trim_end(), 0));
        }
    }
    // Skip the colons of the clock and the hyphens of the date, which precede the sign of an offset.
    let clock = text.find(':')?;
    match text[clock..].find(['+', '-']) {
        Some(sign) => Some((text[..clock + sign].trim_end(), parse_offset(&text[clock + sign..])?)),
        None => Some((text, otherwise)),
    }
}

fn digits(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn nanoseconds(fraction: &str) -> Option<i64> {
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(9)];
    let scale = 10_i64.pow(9 - fraction.len() as u32);
    if fraction.is_empty() { Some(0) } else { Some(digits(fraction)? * scale) }
}

/// Converts a Gregorian date and time of day to nanoseconds since the Unix epoch, ignoring time zones.
fn civil(text: &str, date_separator: char, separator: char) -> Option<i64> {
    let (date, time) = text.split_once(separator)?;
    let mut date = date.splitn(3, date_separator).map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.splitn(3, ':').map(digits);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = (1970..2262).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    // Days since 1970-01-01 of a Gregorian date, counting years from March so that leap days come last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    (((days * 24 + hour) * 60 + minute) * 60 + second).checked_mul(SECOND)?.checked_add(nanoseconds(fraction)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_offsets() {
        let local = Clock::Netflow { utc_offset: 0 };
        assert_eq!(local.parse("1970/01/01 01:00:00.000000"), Some(3_600 * SECOND));
        assert_eq!(local.parse("2000/02/29 00:00:00"), Some(951_782_400 * SECOND));
        assert_eq!(local.parse("2011/08/10 09:46:53.047277"), Some(1_312_969_613_047_277_000));
        let summer = Clock::Netflow { utc_offset: parse_offset("+02:00").unwrap() };
        assert_eq!(summer.parse("2011/08/10 11:46:53.047277"), Some(1_312_969_613_047_277_000));
        for bad in
            ["2011/13/10 09:46:53", "2011/08/10", "", "2011/08/10 09:46:53.x", "-1/08/10 09:46:53", "2011/8/+1 1:1:1"]
        {
            assert_eq!(local.parse(bad), None, "{bad}");
        }
        assert_eq!((parse_offset("+02:00"), parse_offset("-05:30")), (Some(7_200 * SECOND), Some(-19_800 * SECOND)));
        assert_eq!((parse_offset("+0200"), parse_offset("+02")), (Some(7_200 * SECOND), Some(7_200 * SECOND)));
        assert_eq!((parse_offset("02:00"), parse_offset("+99:00"), parse_offset("+2é")), (None, None, None));
    }

    #[test]
    fn iso_times_have_their_own_offset_or_the_files() {
        let clock = Clock::Iso8601 { utc_offset: 3_600 * SECOND };
        let expected = Some(1_312_969_613_500_000_000);
        for text in [
            "2011-08-10T09:46:53.5Z",
            "2011-08-10T10:46:53.5",
            "2011-08-10 10:46:53.500",
            "2011-08-10T11:46:53.5+02:00",
            "2011-08-10T04:16:53.5-05:30",
            "2011-08-10T11:46:53.5+0200",
            "2011-08-10T11:46:53.5+02",
            "2011-08-10T09:46:53.5z",
            "2011-08-10 09:46:53.5 UTC",
        ] {
            assert_eq!(clock.parse(text), expected, "{text}");
        }
        assert_eq!(clock.parse("2011-08-10"), None);
    }

    #[test]
    fn decimal_seconds_are_exact() {
        assert_eq!(Clock::EpochSeconds.parse("1312969613.047277001"), Some(1_312_969_613_047_277_001));
        assert_eq!(decimal_seconds("0.1"), Some(100_000_000));
        for (text, expected) in [
            ("1e9", Some(1_000_000_000 * SECOND)),
            ("1.312969613047277001E+09", Some(1_312_969_613_047_277_001)),
            ("3e-01", Some(300_000_000)),
            ("12.5e-3", Some(12_500_000)),
            ("1e-30", Some(0)),
            ("0e5", Some(0)),
        ] {
            assert_eq!(decimal_seconds(text), expected, "{text}");
        }
        for bad in ["-1", "1e30", "", "1.x", "99999999999999999999", "e5", ".e5", "1e", "1e5x", "é.e1", "1.é5e1"] {
            assert_eq!(decimal_seconds(bad), None, "{bad}");
        }
        for (text, expected) in
            [("-", Some(0)), ("", Some(0)), ("-0.061", Some(0)), ("2.5", Some(5 * SECOND / 2)), ("-x", None)]
        {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
