//! Members of an object found in its text, without reading what they hold.
//!
//! Knows JSON as serde writes it: no blanks between tokens. Must not know objects.

use std::ops::Range;

/// Where the member `name` stands among those that begin at `at`, together with one comma beside it; what remains without
/// it is the same object without the member. `None` without one, and in what is no JSON.
pub fn member(json: &[u8], mut at: usize, name: &str) -> Option<Range<usize>> {
    let first = at;
    loop {
        let colon = string(json, at)?;
        if json.get(colon) != Some(&b':') {
            return None;
        }
        let end = value(json, colon + 1)?;
        let more = json.get(end) == Some(&b',');
        if json.get(at + 1..colon - 1)? == name.as_bytes() {
            return Some(match more {
                true => at..end + 1,
                false if at == first => at..end,
                false => at - 1..end,
            });
        }
        if !more {
            return None;
        }
        at = end + 1;
    }
}

/// The end of the value that begins at `at`.
fn value(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' => string(json, at),
        b'{' | b'[' => nested(json, at),
        _ => {
            let length = json[at..]
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']'))?;
            Some(at + length)
        }
    }
}

/// The end of the object or list that begins at `at`.
fn nested(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match json.get(at)? {
            b'"' => {
                at = string(json, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// The end of the string that begins at `at`.
fn string(json: &[u8], at: usize) -> Option<usize> {
    if json.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value, json};

    /// Every member of every object is found, and gone when it is cut out.
    #[test]
    fn a_member_goes_without_a_trace() {
        for object in [
            json!({ "a": 1 }),
            json!({ "a": "x,\"b\":1}]", "b": [{ "c": "]" }, [], {}], "d": null }),
            json!({ "a": {}, "managedFields": [{ "f": { "k:{\"n\":\"v\"}": {} } }], "name": "\\" }),
            json!({ "labels": { "managedFields": "x" }, "n": -1.5e3, "t": true }),
        ] {
            let text = object.to_string();
            let members: &Map<String, Value> = object.as_object().expect("an object");
            for name in members.keys() {
                let cut = member(text.as_bytes(), 1, name).expect(name);
                let rest = format!("{}{}", &text[..cut.start], &text[cut.end..]);
                let mut want = members.clone();
                want.remove(name);
                assert_eq!(
                    serde_json::from_str::<Value>(&rest).expect(&rest),
                    Value::Object(want)
                );
            }
            assert_eq!(member(text.as_bytes(), 1, "x"), None);
        }
    }

    #[test]
    fn what_is_no_json_has_no_members() {
        for text in [
            "",
            "{",
            "{}",
            r#"{"a"#,
            r#"{"a":"#,
            r#"{"a":["#,
            r#"{"a":"\"#,
            r#"{"a":]]"#,
            r#"{"a" 1}"#,
            "{1}",
        ] {
            assert_eq!(member(text.as_bytes(), 1, "b"), None, "{text}");
        }
    }
}
