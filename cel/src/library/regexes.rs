//! Regular expressions: linear time, the syntax of RE2.

use std::borrow::Cow;

use regex::Regex;

use super::operators::{int, text};
use super::{Call, Entry};
use crate::error::{Eval, EvalError};
use crate::value::Value;

pub const TABLE: &[Entry] = &[
    Entry(
        "matches",
        matches,
        "matches (string, string) bool
        matches_string string.(string) bool",
    ),
    Entry("find", find, "string_find_string string.(string) string"),
    Entry(
        "findAll",
        find_all,
        "string_find_all_string string.(string) list(string)
        string_find_all_string_int string.(string, int) list(string)",
    ),
];

/// Largest compiled pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "expression too large".to_owned(),
            other => other
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .trim()
                .to_owned(),
        })
}

/// # Errors
/// As Go's regexp says it, where it has a word for it.
pub fn read(own: &str) -> Eval<Regex> {
    compile(own).map_err(|error| {
        let (what, part) = match error.trim_start_matches("error: ") {
            "unclosed group" => ("missing closing )", own),
            "unopened group" => ("unexpected )", own),
            "unclosed character class" => ("missing closing ]", own.rfind('[').map_or(own, |at| &own[at..])),
            other => (other, own),
        };
        EvalError::new(format!("error parsing regexp: {what}: `{part}`"))
    })
}

fn pattern<'p>(call: &Call<'p>, own: &str) -> Eval<Cow<'p, Regex>> {
    match call.regex {
        Some(regex) => Ok(Cow::Borrowed(regex)),
        None => read(own).map(Cow::Owned),
    }
}

/// [`pattern`] of the functions that Kubernetes adds.
fn searched<'p>(call: &Call<'p>, own: &str) -> Eval<Cow<'p, Regex>> {
    pattern(call, own).map_err(|error| EvalError::new(format!("Illegal regex: {error}")))
}

fn matches<'a>(call: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let regex = pattern(call, text(&args[1])?)?;
    Ok(Value::Bool(regex.is_match(text(&args[0])?)))
}

fn find<'a>(call: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let regex = searched(call, text(&args[1])?)?;
    Ok(Value::str(
        regex.find(text(&args[0])?).map_or("", |found| found.as_str()),
    ))
}

fn find_all<'a>(call: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let regex = searched(call, text(&args[1])?)?;
    let limit = match args.get(2) {
        Some(limit) => usize::try_from(int(limit)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let found = regex.find_iter(text(&args[0])?).take(limit);
    Ok(Value::list(found.map(|own| Value::str(own.as_str())).collect()))
}
