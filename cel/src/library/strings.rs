//! Strings: CEL's own functions and those of its extension, version 2. `indexOf` and `lastIndexOf` serve lists too.

use super::operators::{int, text};
use super::{Call, Entry, format, lists};
use crate::error::{Eval, EvalError};
use crate::value::Value;

pub const TABLE: &[Entry] = &[
    Entry(
        "contains",
        |_, a| Ok(Value::Bool(text(&a[0])?.contains(&**text(&a[1])?))),
        "contains_string string.(string) bool",
    ),
    Entry(
        "startsWith",
        |_, a| Ok(Value::Bool(text(&a[0])?.starts_with(&**text(&a[1])?))),
        "starts_with_string string.(string) bool",
    ),
    Entry(
        "endsWith",
        |_, a| Ok(Value::Bool(text(&a[0])?.ends_with(&**text(&a[1])?))),
        "ends_with_string string.(string) bool",
    ),
    Entry("charAt", char_at, "string_char_at_int string.(int) string"),
    Entry(
        "indexOf",
        |_, a| index_of(a, false),
        "string_index_of_string string.(string) int
        string_index_of_string_int string.(string, int) int
        list_a_index_of_int list(A).(A) int",
    ),
    Entry(
        "lastIndexOf",
        |_, a| index_of(a, true),
        "string_last_index_of_string string.(string) int
        string_last_index_of_string_int string.(string, int) int
        list_a_last_index_of_int list(A).(A) int",
    ),
    Entry(
        "join",
        join,
        "list_join list(string).() string
        list_join_string list(string).(string) string",
    ),
    Entry(
        "lowerAscii",
        |_, a| Ok(Value::str(text(&a[0])?.to_ascii_lowercase())),
        "string_lower_ascii string.() string",
    ),
    Entry(
        "upperAscii",
        |_, a| Ok(Value::str(text(&a[0])?.to_ascii_uppercase())),
        "string_upper_ascii string.() string",
    ),
    Entry(
        "replace",
        replace,
        "string_replace_string_string string.(string, string) string
        string_replace_string_string_int string.(string, string, int) string",
    ),
    Entry(
        "split",
        split,
        "string_split_string string.(string) list(string)
        string_split_string_int string.(string, int) list(string)",
    ),
    Entry(
        "substring",
        substring,
        "string_substring_int string.(int) string
        string_substring_int_int string.(int, int) string",
    ),
    Entry(
        "trim",
        |_, a| Ok(Value::str(text(&a[0])?.trim_matches(char::is_whitespace))),
        "string_trim string.() string",
    ),
    Entry(
        "strings.quote",
        |_, a| Ok(Value::str(format::quote(text(&a[0])?))),
        "strings_quote (string) string",
    ),
    Entry(
        "format",
        format::format,
        "string_format string.(list(dyn)) string",
    ),
];

/// Most bytes a text may grow to by functions that multiply.
const MAX_BYTES: usize = 10 << 20;

/// # Errors
/// Texts beyond the bound.
fn grown(size: usize) -> Eval<()> {
    if size > MAX_BYTES {
        return Err(EvalError::new("string too large"));
    }
    Ok(())
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::new(format!("index out of range: {index}"))
}

/// The byte at which character `index` starts; the end counts.
fn byte_at(own: &str, index: i64) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    if own.is_ascii() {
        return (index <= own.len()).then_some(index);
    }
    own.char_indices().map(|(at, _)| at).chain([own.len()]).nth(index)
}

fn char_at<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let (own, index) = (text(&args[0])?, int(&args[1])?);
    let at = byte_at(own, index).ok_or_else(|| out_of_range(index))?;
    Ok(Value::str(
        own[at..].chars().next().map(String::from).unwrap_or_default(),
    ))
}

fn index_of<'a>(args: &[Value<'a>], last: bool) -> Eval<Value<'a>> {
    if let Value::List(list) = &args[0] {
        return lists::index_of(list, &args[1], last);
    }
    let (own, part) = (text(&args[0])?, text(&args[1])?);
    let chars = |bytes: usize| Value::Int(own[..bytes].chars().count() as i64);
    let found = match args.get(2) {
        None if last => own.rfind(&**part),
        None => own.find(&**part),
        Some(offset) => {
            let offset = int(offset)?;
            let length = own.chars().count() as i64;
            if offset < 0 {
                return Err(out_of_range(offset));
            }
            if !last && offset > length {
                return Ok(Value::Int(-1));
            }
            if last && offset >= length {
                return Err(out_of_range(offset));
            }
            let at = byte_at(own, offset).ok_or_else(|| out_of_range(offset))?;
            if last {
                // The last one that starts at the offset or before it.
                let mut end = (at + part.len().max(1)).min(own.len());
                while !own.is_char_boundary(end) {
                    end += 1;
                }
                own[..end].rfind(&**part).filter(|found| *found <= at)
            } else {
                own[at..].find(&**part).map(|found| found + at)
            }
        }
    };
    Ok(found.map_or(Value::Int(-1), chars))
}

fn join<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let Value::List(list) = &args[0] else {
        return Err(EvalError::no_overload());
    };
    let separator = match args.get(1) {
        Some(own) => text(own)?.to_string(),
        None => String::new(),
    };
    let mut out = String::new();
    for (idx, own) in list.iter().enumerate() {
        let own = own?;
        if idx > 0 {
            out.push_str(&separator);
        }
        out.push_str(text(&own)?);
        grown(out.len())?;
    }
    Ok(Value::str(out))
}

fn replace<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let (own, old, new) = (text(&args[0])?, text(&args[1])?, text(&args[2])?);
    let limit = match args.get(3) {
        Some(limit) => int(limit)?,
        None => -1,
    };
    let count = if old.is_empty() {
        own.chars().count() + 1
    } else {
        own.len() / old.len()
    };
    grown(own.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(Value::str(match usize::try_from(limit) {
        Err(_) => own.replace(&**old, new),
        Ok(limit) => own.replacen(&**old, new, limit),
    }))
}

fn split<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let (own, separator) = (text(&args[0])?, text(&args[1])?);
    let limit = match args.get(2) {
        Some(limit) => int(limit)?,
        None => -1,
    };
    let item = |part: &str| Value::str(part);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts: Vec<Value<'a>> = if limit == 0 {
        Vec::new()
    } else if separator.is_empty() {
        let mut parts = Vec::new();
        let mut rest = &**own;
        while let Some(first) = rest.chars().next() {
            if parts.len() + 1 == limit {
                break;
            }
            let (head, tail) = rest.split_at(first.len_utf8());
            parts.push(item(head));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(item(rest));
        }
        parts
    } else {
        own.splitn(limit, &**separator).map(item).collect()
    };
    Ok(Value::list(parts))
}

fn substring<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let (own, start) = (text(&args[0])?, int(&args[1])?);
    let from = byte_at(own, start).ok_or_else(|| out_of_range(start))?;
    let to = match args.get(2) {
        None => own.len(),
        Some(end) => {
            let end = int(end)?;
            let to = byte_at(own, end).ok_or_else(|| out_of_range(end))?;
            if end < start {
                return Err(EvalError::new(format!(
                    "invalid substring range. start: {start}, end: {end}"
                )));
            }
            to
        }
    };
    Ok(Value::str(&own[from..to]))
}
