//! JSON with line breaks for people: `?pretty=true`, or a client that is a browser or a command line tool. Pure.
//!
//! Source: Kubernetes `isPrettyPrint` and Go's `json.MarshalIndent` with two spaces. Works on bytes as they pass, so a
//! list stays a stream.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use crate::query::Query;

/// User agents that get line breaks unless they ask for none.
const PEOPLE: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];
const INDENT: &[u8] = b"  ";

/// Whether the answer is for a person's eyes.
#[must_use]
pub fn wanted(query: &Query, user_agent: Option<&str>) -> bool {
    match query.get("pretty").filter(|value| !value.is_empty()) {
        Some(value) => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => user_agent.is_some_and(|agent| PEOPLE.iter().any(|people| agent.starts_with(people))),
    }
}

/// Where in a JSON text the next byte stands.
#[derive(Debug, Default)]
pub struct Pretty {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// An object or array was opened and nothing of it seen yet.
    opened: bool,
}

impl Pretty {
    /// The next bytes of the text, indented. The text is JSON; what is not is passed on as it comes.
    #[must_use]
    pub fn push(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() * 2);
        for &byte in text {
            if self.in_string {
                out.push(byte);
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => continue,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !std::mem::take(&mut self.opened) {
                        self.new_line(&mut out);
                    }
                    out.push(byte);
                    continue;
                }
                _ => {}
            }
            if std::mem::take(&mut self.opened) {
                self.new_line(&mut out);
            }
            out.push(byte);
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    self.opened = true;
                }
                b',' => self.new_line(&mut out),
                b':' => out.push(b' '),
                _ => {}
            }
        }
        out
    }

    fn new_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        for _ in 0..self.depth {
            out.extend_from_slice(INDENT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(value: &Value) {
        let text = value.to_string() + "\n";
        let want = serde_json::to_string_pretty(value).expect("JSON");
        for chunk in [1, 3, text.len()] {
            let mut pretty = Pretty::default();
            let out: Vec<u8> = text
                .as_bytes()
                .chunks(chunk)
                .flat_map(|part| pretty.push(part))
                .collect();
            assert_eq!(
                String::from_utf8(out).expect("UTF-8"),
                want,
                "in pieces of {chunk}"
            );
        }
    }

    #[test]
    fn indented_as_upstream_does() {
        check(&json!({}));
        check(&json!([]));
        check(&json!({ "a": [], "b": {}, "c": [1, 2.5, null, true], "d": { "e": [{}, { "f": [[]] }] } }));
        check(&json!({ "quotes \" and \\ and {[,:]} ": "ü\n\\\"" }));
        check(&json!("text"));
    }

    #[test]
    fn who_gets_it() {
        let check = |query: &str, agent: Option<&str>, want: bool| {
            assert_eq!(
                wanted(&Query::parse(Some(query)), agent),
                want,
                "{query} {agent:?}"
            );
        };
        check("", None, false);
        check("", Some("kubectl/v1.33"), false);
        check("", Some("curl/8.0"), true);
        check("", Some("Mozilla/5.0 (X11)"), true);
        check("pretty=true", Some("kubectl/v1.33"), true);
        check("pretty=1", None, true);
        check("pretty=false", Some("curl/8.0"), false);
        check("pretty=", Some("curl/8.0"), true);
        check("pretty=yes", Some("curl/8.0"), false);
    }
}
