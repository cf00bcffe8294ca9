//! The JSON text of values, byte for byte as `serde_json` writes it: every stored object passes here, so texts are searched for
//! what needs an escape eight bytes at a time.

use std::io::Write;

use serde_json::{Number, Value};

/// Appends `value`.
pub fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text),
        Value::Array(list) => {
            out.push(b'[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(out, item);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            for (at, (name, value)) in map.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(out, name);
                out.push(b':');
                write(out, value);
            }
            out.push(b'}');
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: &Number) {
    let mut digits = itoa::Buffer::new();
    if let Some(whole) = number.as_i64() {
        out.extend_from_slice(digits.format(whole).as_bytes());
    } else {
        write!(out, "{number}").expect("memory takes everything");
    }
}

/// Appends `text` in quotes.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    write_escaped(out, text);
    out.push(b'"');
}

/// Appends what stands between the quotes of `text`.
pub fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = special(rest) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            control => write!(out, "\\u{control:04x}").expect("memory takes everything"),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// The first byte that cannot stand for itself: a quote, a backslash, a control character.
fn special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    /// The high bit of the first byte of `word` that is less than `limit` (at most 128), and perhaps of later ones.
    fn below(word: u64, limit: u8) -> u64 {
        word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH
    }
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = below(word, 0x20) | quote | backslash;
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let is_special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    let at = rest.iter().position(is_special)?;
    Some(words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[track_caller]
    fn check(value: &Value) {
        let mut out = Vec::new();
        write(&mut out, value);
        assert_eq!(String::from_utf8(out).expect("text"), value.to_string());
    }

    #[test]
    fn values() {
        check(
            &json!({"a": [1, -1, u64::MAX, i64::MIN, 1.5, 1e300, 0.0, -0.0, true, false, null, "", {}, []], "ü\"\\": "x"}),
        );
        check(&json!([[[]], {"": {"": []}}]));
    }

    #[test]
    fn every_character_at_every_place() {
        for code in (0..0x100).chain([0x7ff, 0x2028, 0xffff, 0x1_f600]) {
            let c = char::from_u32(code).expect("a character");
            for before in 0..18 {
                check(&Value::String(format!("{}{c}{}", "x".repeat(before), "y\u{1}z")));
            }
        }
    }

    proptest! {
        #[test]
        fn any_text(text in any::<String>()) {
            let mut out = Vec::new();
            write_text(&mut out, &text);
            prop_assert_eq!(String::from_utf8(out).expect("text"), Value::String(text).to_string());
        }
    }
}
