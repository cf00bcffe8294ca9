//! The formats of strings that are checked; all others are only documentation.
//!
//! Source: `k8s.io/apiextensions-apiserver/pkg/apiserver/validation/formats.go`. Names carry no dashes.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Formats that are checked, without those that hold for every string (`password`).
const KNOWN: [&str; 26] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

pub fn is_known(format: &str) -> bool {
    KNOWN.contains(&format)
}

/// The name in error texts.
pub fn shown(format: &str) -> &str {
    match format {
        "k8slongname" => "k8s-long-name",
        "k8sshortname" => "k8s-short-name",
        other => other,
    }
}

fn digits(text: &str) -> Option<Vec<u32>> {
    text.chars().map(|c| c.to_digit(10)).collect()
}

fn hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn uuid(text: &str, version: Option<u8>) -> bool {
    let parts: Vec<&str> = match text.contains('-') {
        true => text.split('-').collect(),
        false if text.len() == 32 && text.is_ascii() => {
            vec![
                &text[..8],
                &text[8..12],
                &text[12..16],
                &text[16..20],
                &text[20..],
            ]
        }
        false => return false,
    };
    let [a, b, c, d, e] = parts[..] else { return false };
    hex(a, 8)
        && hex(b, 4)
        && hex(c, 4)
        && hex(d, 4)
        && hex(e, 12)
        && version.is_none_or(|wanted| c.as_bytes()[0] == wanted)
}

fn isbn10(text: &str) -> bool {
    let text = text.replace(['-', ' '], "");
    let Some((head, last)) = text.split_at_checked(9) else {
        return false;
    };
    let check = match last {
        "X" => Some(10),
        one if one.len() == 1 => one.parse::<u32>().ok(),
        _ => None,
    };
    match (digits(head), check) {
        (Some(head), Some(check)) => {
            let sum: u32 = head.iter().zip(1..).map(|(digit, place)| digit * place).sum();
            (sum + 10 * check).is_multiple_of(11)
        }
        _ => false,
    }
}

fn isbn13(text: &str) -> bool {
    match digits(&text.replace(['-', ' '], "")) {
        Some(all) if all.len() == 13 => {
            all.iter()
                .zip([1, 3].iter().cycle())
                .map(|(digit, weight)| digit * weight)
                .sum::<u32>()
                % 10
                == 0
        }
        _ => false,
    }
}

/// The sum of Luhn over a number of 13 to 19 digits.
fn credit_card(text: &str) -> bool {
    match digits(&text.replace(['-', ' '], "")) {
        Some(all) if (13..=19).contains(&all.len()) => {
            let sum: u32 = all
                .iter()
                .rev()
                .zip([1, 2].iter().cycle())
                .map(|(digit, weight)| digit * weight)
                .map(|n| n / 10 + n % 10)
                .sum();
            sum.is_multiple_of(10)
        }
        _ => false,
    }
}

fn rgb_color(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')'));
    inner.is_some_and(|inner| {
        let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
        parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
    })
}

fn hostname(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    text.len() <= 255 && text.split('.').all(label)
}

fn uri(text: &str) -> bool {
    let printable = !text.is_empty() && text.chars().all(|c| !c.is_control() && c != ' ');
    printable
        && (text.starts_with('/')
            || text.split_once(':').is_some_and(|(scheme, _)| {
                scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                    && scheme
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            }))
}

fn email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && !user.contains(|c: char| c.is_whitespace() || c == '@') && hostname(host)
    })
}

/// Go's durations (`1h30m`), and words as `2 days` that go-openapi reads too.
fn duration(text: &str) -> bool {
    const UNITS: [&str; 30] = [
        "ns",
        "nano",
        "us",
        "µs",
        "micro",
        "ms",
        "milli",
        "s",
        "sec",
        "second",
        "m",
        "min",
        "minute",
        "h",
        "hr",
        "hour",
        "d",
        "day",
        "w",
        "wk",
        "week",
        "nanosecond",
        "microsecond",
        "millisecond",
        "secs",
        "mins",
        "hrs",
        "nanos",
        "micros",
        "millis",
    ];
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text).trim();
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        if number == 0 || rest[..number].parse::<f64>().is_err() {
            return false;
        }
        rest = rest[number..].trim_start();
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c.is_whitespace())
            .unwrap_or(rest.len());
        let word = rest[..unit].to_lowercase();
        if !UNITS.contains(&word.as_str()) && !word.strip_suffix('s').is_some_and(|one| UNITS.contains(&one))
        {
            return false;
        }
        rest = rest[unit..].trim_start();
        parts += 1;
    }
    parts > 0
}

/// True when `text` is of this format.
pub fn holds(format: &str, text: &str) -> bool {
    match format {
        "bsonobjectid" => hex(text, 24),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "creditcard" => credit_card(text),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "datetime" => crate::time::parse(text).is_some(),
        "duration" => duration(text),
        "email" => email(text),
        "hexcolor" => text
            .strip_prefix('#')
            .is_some_and(|own| hex(own, 3) || hex(own, 6)),
        "hostname" => hostname(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "k8slongname" => crate::names::dns_subdomain(text).is_empty(),
        "k8sshortname" => crate::names::dns_label(text).is_empty(),
        "mac" => {
            let parts: Vec<&str> = text.split([':', '-']).collect();
            matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|part| hex(part, 2))
        }
        "rgbcolor" => rgb_color(text),
        "ssn" => {
            let parts: Vec<&str> = text.split(['-', ' ']).collect();
            let number = |text: &str, length| text.len() == length && digits(text).is_some();
            matches!(parts[..], [a, b, c] if number(a, 3) && number(b, 2) && number(c, 4))
        }
        "uri" => uri(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some(b'3')),
        "uuid4" => uuid(text, Some(b'4')),
        "uuid5" => uuid(text, Some(b'5')),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        for (format, good, bad) in [
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("byte", "aGk=", "%%"),
            ("cidr", "10.0.0.0/8", "10.0.0.0"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("date", "2024-02-29", "2023-02-29"),
            ("datetime", "2024-02-29T10:00:00Z", "2024-02-29"),
            ("duration", "1h30m", "1x"),
            ("duration", "2 days", "two days"),
            ("email", "a@b.example", "a.b"),
            ("hexcolor", "#fff", "#ffff"),
            ("hostname", "a.b-c", "-a"),
            ("ipv4", "1.2.3.4", "1.2.3"),
            ("ipv6", "::1", "1.2.3.4"),
            ("isbn", "978-3-16-148410-0", "978-3-16-148410-1"),
            ("isbn10", "3-16-148410-X", "3-16-148410-1"),
            ("k8sshortname", "a-b", "a.b"),
            ("k8slongname", "a.b", "A"),
            ("mac", "01:02:03:04:05:06", "01:02"),
            ("rgbcolor", "rgb(1, 2, 3)", "rgb(1,2)"),
            ("ssn", "111-22-3333", "111-2-3333"),
            ("uri", "https://a.example/b", "a b"),
            ("uuid", "d3b07384-d9a0-4c9b-8f0e-0123456789ab", "d3b07384"),
            (
                "uuid4",
                "d3b07384-d9a0-4c9b-8f0e-0123456789ab",
                "d3b07384-d9a0-3c9b-8f0e-0123456789ab",
            ),
        ] {
            assert!(is_known(format), "{format}");
            assert!(holds(format, good), "{format}: {good}");
            assert!(!holds(format, bad), "{format}: {bad}");
        }
        assert!(!is_known("int32"));
    }
}
