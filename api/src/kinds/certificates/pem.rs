//! PEM blocks, read as Go's `encoding/pem` reads them: what is between blocks is skipped.
//!
//! Knows only the frame; what the bytes of a block mean is the caller's.

use std::iter::Peekable;
use std::str::Lines;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// `CERTIFICATE`, `CERTIFICATE REQUEST`.
    pub kind: String,
    pub has_headers: bool,
    pub bytes: Vec<u8>,
}

/// All well-formed blocks, in order. Takes time linear in the text.
pub fn blocks(text: &str) -> impl Iterator<Item = Block> + '_ {
    let mut lines = text.lines().peekable();
    std::iter::from_fn(move || {
        loop {
            let kind = lines
                .next()?
                .trim_end()
                .strip_prefix(BEGIN)
                .and_then(|rest| rest.strip_suffix(DASHES));
            if let Some(kind) = kind
                && let Some(block) = body(kind, &mut lines)
            {
                return Some(block);
            }
        }
    })
}

/// Reads up to the end line that fits `kind`; `None` if what comes is no block. Leaves the next block's first line.
fn body(kind: &str, lines: &mut Peekable<Lines<'_>>) -> Option<Block> {
    let end = format!("-----END {kind}-----");
    let mut data = String::new();
    let mut has_headers = false;
    while let Some(line) = lines.next_if(|line| !line.starts_with(BEGIN)) {
        let line = line.trim();
        if line == end {
            let bytes = STANDARD.decode(data).ok()?;
            return Some(Block {
                kind: kind.into(),
                has_headers,
                bytes,
            });
        }
        match line.contains(':') {
            true if data.is_empty() => has_headers = true,
            _ => data.push_str(line),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[(&str, bool, &[u8])]) {
        let got: Vec<Block> = blocks(text).collect();
        let want: Vec<Block> = want
            .iter()
            .map(|(kind, has_headers, bytes)| Block {
                kind: kind.to_string(),
                has_headers: *has_headers,
                bytes: bytes.to_vec(),
            })
            .collect();
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn frames() {
        check("", &[]);
        check("-----BEGIN A-----\naGk=\n-----END A-----", &[("A", false, b"hi")]);
        check(
            "noise\n-----BEGIN A B-----\r\naG\r\nk=\r\n-----END A B-----\r\nnoise\n-----BEGIN C-----\n-----END C-----\n",
            &[("A B", false, b"hi"), ("C", false, b"")],
        );
        check(
            "-----BEGIN A-----\nKey: value\n\naGk=\n-----END A-----",
            &[("A", true, b"hi")],
        );
        check("-----BEGIN A-----\naGk=\n-----END B-----", &[]);
        check(
            "-----BEGIN A-----\naGk=\n-----BEGIN B-----\naGk=\n-----END B-----",
            &[("B", false, b"hi")],
        );
        check("-----BEGIN A-----\n!!\n-----END A-----", &[]);
        check("-----BEGIN A-----\naGk=", &[]);
    }
}
