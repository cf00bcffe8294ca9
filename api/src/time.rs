//! Times on the wire: `Time` (seconds) and `MicroTime` (microseconds), both RFC 3339 in UTC.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::Offset;

/// `metav1.Time`: `2026-01-02T15:04:05Z`; fractions are cut off.
pub fn format_time(time: Timestamp) -> String {
    let at = Offset::UTC.to_datetime(time);
    let Ok(year @ 0..=9999) = u16::try_from(at.year()) else {
        return strtime::format("%Y-%m-%dT%H:%M:%SZ", time).expect("a timestamp always formats");
    };
    let mut text = *b"0000-00-00T00:00:00Z";
    let mut put = |place: usize, number: u16| {
        text[place] += (number / 10 % 10) as u8;
        text[place + 1] += (number % 10) as u8;
    };
    put(0, year / 100);
    put(2, year % 100);
    let rest = [
        (5, at.month()),
        (8, at.day()),
        (11, at.hour()),
        (14, at.minute()),
        (17, at.second()),
    ];
    for (place, number) in rest {
        put(place, number.unsigned_abs().into());
    }
    String::from_utf8(text.to_vec()).expect("digits")
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
    fn every_time_is_written_as_its_format_says() {
        let range = -377_705_023_201..=253_402_207_200i64; // jiff's
        for second in range.step_by(9_999_999_937).chain([
            0,
            951_782_400,
            1_790_000_000,
            -62_167_219_200,
            -62_167_219_201,
        ]) {
            let time = Timestamp::from_second(second).expect("in range");
            let want = strtime::format("%Y-%m-%dT%H:%M:%SZ", time).expect("a time");
            assert_eq!(format_time(time), want);
        }
        let late = Timestamp::new(1_790_000_000, 999_999_999).expect("a time");
        assert_eq!(format_time(late), "2026-09-21T14:13:20Z");
        let before = Timestamp::new(-1, -999_999_999).expect("a time");
        assert_eq!(
            format_time(before),
            strtime::format("%Y-%m-%dT%H:%M:%SZ", before).expect("a time")
        );
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
