//! Times on the wire: `Time` (seconds) and `MicroTime` (microseconds), both RFC 3339 in UTC.

use jiff::Timestamp;
use jiff::fmt::strtime;

/// `metav1.Time`: `2026-01-02T15:04:05Z`; fractions are cut off.
pub fn format_time(time: Timestamp) -> String {
    strtime::format("%Y-%m-%dT%H:%M:%SZ", time).expect("a timestamp always formats")
}

/// `metav1.MicroTime`: `2026-01-02T15:04:05.000000Z`.
pub fn format_micro_time(time: Timestamp) -> String {
    let micros = time.subsec_nanosecond().rem_euclid(1_000_000_000) / 1_000;
    let base = format_time(time);
    format!("{}.{micros:06}Z", base.trim_end_matches('Z'))
}

/// Any RFC 3339 time with offset; `None` for anything else.
pub fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && bytes[10] == b'T'
        && bytes[13] == b':'
        && bytes[16] == b':'
        && (bytes[bytes.len() - 1] == b'Z' || matches!(bytes[bytes.len() - 6], b'+' | b'-'));
    if shaped { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Option<(&str, &str)>) {
        let got = parse(text).map(|t| (format_time(t), format_micro_time(t)));
        assert_eq!(got, want.map(|(a, b)| (a.to_string(), b.to_string())), "{text}");
    }

    #[test]
    fn wire_forms() {
        check(
            "2026-01-02T15:04:05Z",
            Some(("2026-01-02T15:04:05Z", "2026-01-02T15:04:05.000000Z")),
        );
        check(
            "2026-01-02T15:04:05.1234567Z",
            Some(("2026-01-02T15:04:05Z", "2026-01-02T15:04:05.123456Z")),
        );
        check(
            "2026-01-02T17:04:05+02:00",
            Some(("2026-01-02T15:04:05Z", "2026-01-02T15:04:05.000000Z")),
        );
        check("2026-01-02", None);
        check("2026-01-02T15:04:05", None);
        check("yesterday", None);
        check("2026-13-02T15:04:05Z", None);
    }
}
