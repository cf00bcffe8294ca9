//! Scalars with a form of their own: quantities, times, base64. Each returns the canonical text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::quantity::Quantity;
use crate::time;

/// Canonical quantity: `1000m` becomes `1`.
pub fn quantity(text: &str) -> Result<String, String> {
    text.trim()
        .parse::<Quantity>()
        .map(|q| q.to_string())
        .map_err(|e| e.to_string())
}

/// Base64 as Go reads it: line breaks are ignored; written back without them.
pub fn bytes(text: &str) -> Result<String, String> {
    let clean: String;
    let text = if text.contains(['\r', '\n']) {
        clean = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        &clean
    } else {
        text
    };
    match STANDARD.decode(text) {
        Ok(_) => Ok(text.to_string()),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.len() / 4 * 4,
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

/// RFC 3339 to whole seconds in UTC.
pub fn time(text: &str) -> Result<String, String> {
    match time::parse(text) {
        Some(time) => Ok(time::format_time(time)),
        None => Err(time_error(text, "2006-01-02T15:04:05Z07:00")),
    }
}

/// RFC 3339 to microseconds in UTC.
pub fn micro_time(text: &str) -> Result<String, String> {
    match time::parse(text) {
        Some(time) => Ok(time::format_micro_time(time)),
        None => Err(time_error(text, "2006-01-02T15:04:05.000000Z07:00")),
    }
}

/// Go names the first part of the layout that the text does not follow.
fn time_error(text: &str, layout: &str) -> String {
    let quoted = crate::field::quoted;
    let mut rest = text;
    for (part, digits) in [
        ("2006", 4),
        ("-", 0),
        ("01", 2),
        ("-", 0),
        ("02", 2),
        ("T", 0),
        ("15", 2),
        (":", 0),
        ("04", 2),
        (":", 0),
        ("05", 2),
    ] {
        let taken = match digits {
            0 => rest.strip_prefix(part),
            n => rest
                .get(..n)
                .filter(|d| d.bytes().all(|b| b.is_ascii_digit()))
                .map(|_| &rest[n..]),
        };
        match taken {
            Some(after) => rest = after,
            None => {
                return format!(
                    "parsing time {} as {}: cannot parse {} as {}",
                    quoted(text),
                    quoted(layout),
                    quoted(rest),
                    quoted(part)
                );
            }
        }
    }
    if rest.is_empty() {
        return format!(
            "parsing time {} as {}: cannot parse \"\" as \"Z07:00\"",
            quoted(text),
            quoted(layout)
        );
    }
    format!("parsing time {}: value out of range", quoted(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(got: Result<String, String>, want: Result<&str, &str>) {
        assert_eq!(got.as_deref().map_err(String::as_str), want);
    }

    #[test]
    fn canonical_or_refused() {
        check(quantity("1000m"), Ok("1"));
        check(quantity("x").map_err(|e| e[..10].into()), Err("quantities"));
        check(bytes("aGk=\n"), Ok("aGk="));
        check(bytes("a$"), Err("illegal base64 data at input byte 1"));
        check(time("2026-01-02T03:04:05+01:00"), Ok("2026-01-02T02:04:05Z"));
        check(
            time("x"),
            Err("parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\""),
        );
        check(
            time("2026-01-02 03"),
            Err(
                "parsing time \"2026-01-02 03\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \" 03\" as \"T\"",
            ),
        );
        check(
            micro_time("2026-01-02T03:04:05.5Z"),
            Ok("2026-01-02T03:04:05.500000Z"),
        );
    }
}
