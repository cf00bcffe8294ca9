//! A log that cannot be changed unnoticed: each line carries a digest of itself and of the line before. Pure.
//!
//! A line is a JSON object; its last member becomes `"chain":"HEX"`. Whoever can write the file can make a whole chain anew:
//! keep the last digest somewhere else to notice that too.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::fmt::Write;

use sha2::{Digest, Sha256};

const MEMBER: &[u8] = b",\"chain\":\"";
const HEX: usize = 64;

/// The digest of the last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain([u8; 32]);

impl Chain {
    /// Goes on from a line of a log; a line without a digest begins a new chain.
    #[must_use]
    pub fn after(line: &[u8]) -> Chain {
        parts(line).map_or_else(Chain::default, |(_, digest)| digest)
    }

    /// Appends `line`, an object without line breaks, with its digest and a line break.
    pub fn append(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let object = line.strip_suffix(b"}").unwrap_or(line);
        *self = self.next(object);
        out.extend_from_slice(object);
        out.extend_from_slice(MEMBER);
        out.extend_from_slice(self.hex().as_bytes());
        out.extend_from_slice(b"\"}\n");
    }

    fn next(self, object: &[u8]) -> Chain {
        let mut digest = Sha256::new();
        digest.update(self.0);
        digest.update(object);
        Chain(digest.finalize().into())
    }

    /// As the log has it.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut hex = String::with_capacity(HEX);
        for byte in self.0 {
            let _ = write!(hex, "{byte:02x}"); // writing to a string does not fail
        }
        hex
    }
}

/// A line's object without its end, and its digest.
fn parts(line: &[u8]) -> Option<(&[u8], Chain)> {
    let rest = line.strip_suffix(b"\"}")?;
    let (object, hex) = rest.split_at_checked(rest.len().checked_sub(HEX)?)?;
    let object = object.strip_suffix(MEMBER)?;
    let hex = std::str::from_utf8(hex).ok()?;
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..HEX).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some((object, Chain(digest)))
}

/// Looks whether every line follows from the one before. `before`: the end of the file before, if it is known; else the
/// first line is believed. Returns the end.
///
/// # Errors
/// The number of the first line that does not follow, from 1.
pub fn verify(log: &[u8], mut before: Option<Chain>) -> Result<Option<Chain>, usize> {
    for (number, line) in log.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let (object, digest) = parts(line).ok_or(number + 1)?;
        if before.is_some_and(|before| before.next(object) != digest) {
            return Err(number + 1);
        }
        before = Some(digest);
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_noticed() {
        let (mut chain, mut log) = (Chain::default(), Vec::new());
        for number in 0..4 {
            chain.append(format!("{{\"number\":{number}}}").as_bytes(), &mut log);
        }
        let text = String::from_utf8(log.clone()).expect("text");
        assert!(
            text.lines()
                .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
        );
        assert_eq!(verify(&log, Some(Chain::default())), Ok(Some(chain)));
        assert_eq!(
            Chain::after(text.lines().last().expect("a line").as_bytes()),
            chain
        );
        let lines: Vec<&str> = text.lines().collect();
        let check = |lines: &[&str], want| {
            assert_eq!(
                verify(lines.join("\n").as_bytes(), Some(Chain::default())),
                want,
                "{lines:?}"
            );
        };
        check(&[lines[0], lines[2], lines[3]], Err(2));
        check(&[lines[1], lines[2], lines[3]], Err(1));
        check(&[lines[0], lines[2], lines[1], lines[3]], Err(2));
        let changed = lines[2].replace("2", "3");
        check(&[lines[0], lines[1], &changed, lines[3]], Err(3));
        check(&[lines[0], "{}"], Err(2));
        assert!(
            verify(lines[1..].join("\n").as_bytes(), None).is_ok(),
            "an older file was removed"
        );
    }
}
