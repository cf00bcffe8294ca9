//! Semantic versions.
//!
//! Source: `k8s.io/apiserver/pkg/cel/library/semverlib.go`, which reads them with blang/semver v4.

use std::cmp::Ordering;

use super::Entry;
use super::operators::text;
use crate::error::{Eval, EvalError};
use crate::opaque::Opaque;
use crate::value::Value;

pub const TABLE: &[Entry] = &[
    Entry(
        "semver",
        |_, a| match parse(a) {
            Ok(own) => Ok(Value::Opaque(Opaque::Semver(own.into()))),
            Err(error) => Err(error),
        },
        "string_to_semver (string) kubernetes.Semver
        string_bool_to_semver (string, bool) kubernetes.Semver",
    ),
    Entry(
        "isSemver",
        |_, a| match parse(a) {
            Err(error) if error == EvalError::no_overload() => Err(error),
            other => Ok(Value::Bool(other.is_ok())),
        },
        "is_semver_string (string) bool
        is_semver_string_bool (string, bool) bool",
    ),
    Entry(
        "major",
        |_, a| number(a, |own| own.numbers[0]),
        "semver_major kubernetes.Semver.() int",
    ),
    Entry(
        "minor",
        |_, a| number(a, |own| own.numbers[1]),
        "semver_minor kubernetes.Semver.() int",
    ),
    Entry(
        "patch",
        |_, a| number(a, |own| own.numbers[2]),
        "semver_patch kubernetes.Semver.() int",
    ),
];

#[derive(Debug, Clone)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    // Numbers come before words.
    Number(u64),
    Word(String),
}

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        compare(self, other) == Ordering::Equal
    }
}

/// Precedence; what was built with does not count.
pub fn compare(a: &Semver, b: &Semver) -> Ordering {
    a.numbers
        .cmp(&b.numbers)
        .then_with(|| match (a.pre.is_empty(), b.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => a.pre.cmp(&b.pre),
        })
}

fn parse(args: &[Value<'_>]) -> Eval<Semver> {
    let own = text(&args[0])?;
    let normalize = match args.get(1) {
        Some(Value::Bool(own)) => *own,
        None => false,
        Some(_) => return Err(EvalError::no_overload()),
    };
    let own = if normalize {
        normalized(own)
    } else {
        own.to_string()
    };
    read(&own).map_err(EvalError::new)
}

/// No leading `v`, no leading zeros, three numbers.
fn normalized(own: &str) -> String {
    let own = own.strip_prefix('v').unwrap_or(own);
    let end = own.find(['-', '+']).unwrap_or(own.len());
    let (numbers, rest) = own.split_at(end);
    let mut parts: Vec<&str> = numbers
        .splitn(3, '.')
        .map(|part| {
            let trimmed = part.trim_start_matches('0');
            if trimmed.is_empty() && !part.is_empty() {
                "0"
            } else {
                trimmed
            }
        })
        .collect();
    while parts.len() < 3 {
        parts.push("0");
    }
    format!("{}{rest}", parts.join("."))
}

fn read(own: &str) -> Result<Semver, String> {
    if own.is_empty() {
        return Err("Version string empty".into());
    }
    let parts: Vec<&str> = own.splitn(3, '.').collect();
    let [major, minor, rest] = parts[..] else {
        return Err("No Major.Minor.Patch elements found".into());
    };
    let (rest, build) = match rest.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (rest, None),
    };
    let (patch, pre) = match rest.split_once('-') {
        Some((patch, pre)) => (patch, Some(pre)),
        None => (rest, None),
    };
    let number = |own: &str, what: &str| -> Result<u64, String> {
        if own.is_empty() || !own.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("Invalid character(s) found in {what} number {own:?}"));
        }
        if own.len() > 1 && own.starts_with('0') {
            let (first, rest) = what.split_at(1);
            let what = first.to_ascii_uppercase() + rest;
            return Err(format!("{what} number must not contain leading zeroes {own:?}"));
        }
        own.parse()
            .map_err(|_| format!("strconv.ParseUint: parsing {own:?}: value out of range"))
    };
    let numbers = [
        number(major, "major")?,
        number(minor, "minor")?,
        number(patch, "patch")?,
    ];
    let word = |own: &str| !own.is_empty() && own.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let mut parsed = Vec::new();
    for part in pre.into_iter().flat_map(|pre| pre.split('.')) {
        if part.is_empty() {
            return Err("Prerelease is empty".into());
        }
        if !word(part) {
            return Err(format!("Invalid character(s) found in prerelease {part:?}"));
        }
        if part.bytes().all(|b| b.is_ascii_digit()) {
            if part.len() > 1 && part.starts_with('0') {
                return Err(format!(
                    "Numeric PreRelease version must not contain leading zeroes {part:?}"
                ));
            }
            parsed.push(Part::Number(part.parse().map_err(|_| {
                format!("strconv.ParseUint: parsing {part:?}: value out of range")
            })?));
        } else {
            parsed.push(Part::Word(part.to_owned()));
        }
    }
    for part in build.into_iter().flat_map(|build| build.split('.')) {
        if part.is_empty() {
            return Err("Build meta data is empty".into());
        }
        if !word(part) {
            return Err(format!("Invalid character(s) found in build meta data {part:?}"));
        }
    }
    Ok(Semver { numbers, pre: parsed })
}

fn number<'a>(args: &[Value<'a>], of: fn(&Semver) -> u64) -> Eval<Value<'a>> {
    match &args[0] {
        Value::Opaque(Opaque::Semver(own)) => Ok(Value::Int(i64::try_from(of(own)).unwrap_or(i64::MAX))),
        _ => Err(EvalError::no_overload()),
    }
}
