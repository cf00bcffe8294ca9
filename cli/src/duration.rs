//! Durations as flags take them: `90s`, `30m`, `1h30m`, `0`.

use std::time::Duration;

/// # Errors
/// In words for the user.
pub fn parse(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration such as 90s, 30m or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0u64);
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let amount: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let mut letters = rest[digits..].chars();
        let unit = match letters.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => return Err(bad()),
        };
        seconds = amount
            .checked_mul(unit)
            .and_then(|more| seconds.checked_add(more))
            .filter(|seconds| *seconds <= MAX_SECONDS)
            .ok_or_else(bad)?;
        rest = letters.as_str();
    }
    Ok(Duration::from_secs(seconds))
}

/// A thousand years: far from where adding it to a time could overflow.
const MAX_SECONDS: u64 = 1000 * 365 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<u64>) {
        assert_eq!(parse(text).ok().map(|d| d.as_secs()), want, "{text}");
    }

    #[test]
    fn durations() {
        check("0", Some(0));
        check("90s", Some(90));
        check("24h", Some(86_400));
        check("1h30m0s", Some(5400));
        check("2d", Some(172_800));
        for bad in [
            "",
            "1",
            "h",
            "-1h",
            "1h ",
            "é",
            "99999999999999999999h",
            "999999999999h",
        ] {
            check(bad, None);
        }
    }
}
