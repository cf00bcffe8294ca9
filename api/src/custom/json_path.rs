//! The part of kubectl's JSONPath that columns and fields use: names, indexes, slices, `*`, and filters by comparison.
//!
//! Source of the syntax: `k8s.io/client-go/util/jsonpath`. Recursive descent (`..`) and ranges over templates are not
//! part of it.

use serde_json::Value;

/// Most steps of one path.
const MAX_STEPS: usize = 64;

/// A parsed path.
#[derive(Debug, Clone)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone)]
enum Step {
    Field(String),
    All,
    /// From, to (exclusive), each counted from the end when negative.
    Slice(Option<i64>, Option<i64>),
    Index(i64),
    Filter(Vec<String>, Option<(Compare, Value)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    Different,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A path in the dot notation, split: `.spec.replicas`.
pub fn simple_path(text: &str) -> Vec<String> {
    text.trim_start_matches('.')
        .split('.')
        .map(str::to_owned)
        .collect()
}

impl Step {
    fn name(&self) -> Option<&str> {
        match self {
            Step::Field(name) => Some(name.as_str()),
            _ => None,
        }
    }
}

impl JsonPath {
    /// Reads `.spec.list[0].name` and the like; braces around it are allowed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<JsonPath, String> {
        let text = text.trim();
        let text = text
            .strip_prefix('{')
            .and_then(|t| t.strip_suffix('}'))
            .unwrap_or(text);
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while let Some(first) = rest.chars().next() {
            if steps.len() >= MAX_STEPS {
                return Err("path has too many steps".into());
            }
            match first {
                '.' if rest.starts_with("..") => return Err("recursive descent is not supported".into()),
                '.' => {
                    rest = &rest[1..];
                    if rest.is_empty() || rest.starts_with('[') {
                        continue;
                    }
                    let (name, tail) = take_name(rest);
                    rest = tail;
                    steps.push(if name == "*" { Step::All } else { Step::Field(name) });
                }
                '[' => {
                    let end = closing(rest).ok_or("unterminated array")?;
                    steps.push(bracket(rest[1..end].trim())?);
                    rest = &rest[end + 1..];
                }
                _ if steps.is_empty() => {
                    let (name, tail) = take_name(rest);
                    rest = tail;
                    steps.push(Step::Field(name));
                }
                other => return Err(format!("unexpected character {other:?}")),
            }
        }
        Ok(JsonPath(steps))
    }

    /// The plain names of a path without indexes and filters.
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.0.iter().map(Step::name).collect()
    }

    /// Everything the path leads to, in order.
    pub fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![object];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.below(value)).collect();
        }
        found
    }
}

/// A field's name up to the next `.` or `[`; a backslash takes the meaning from the next character.
fn take_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(chars.next().map(|(_, next)| next)),
            other => name.push(other),
        }
    }
    (name, "")
}

/// Where the bracket that `text` begins with closes; quotes hide brackets.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0usize, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Result<Step, String> {
    if inner == "*" {
        return Ok(Step::All);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        return parse_filter(filter);
    }
    if let Some(name) = unquoted(inner) {
        return Ok(Step::Field(name));
    }
    let number = |text: &str| {
        text.trim()
            .parse::<i64>()
            .map_err(|_| format!("invalid array index {inner}"))
    };
    if let Some((from, to)) = inner.split_once(':') {
        let side = |text: &str| match text.trim() {
            "" => Ok(None),
            text => number(text).map(Some),
        };
        return Ok(Step::Slice(side(from)?, side(to)?));
    }
    Ok(Step::Index(number(inner)?))
}

fn unquoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace("\\'", "'").replace("\\\"", "\""))
}

fn parse_filter(text: &str) -> Result<Step, String> {
    let operators = [
        ("==", Compare::Equal),
        ("!=", Compare::Different),
        ("<=", Compare::LessOrEqual),
        (">=", Compare::GreaterOrEqual),
        ("<", Compare::Less),
        (">", Compare::Greater),
    ];
    let path = |text: &str| -> Result<Vec<String>, String> {
        let text = text
            .trim()
            .strip_prefix('@')
            .ok_or("a filter must begin with @")?;
        let parsed = JsonPath::parse(text)?;
        let fields = parsed.fields().ok_or("a filter may only name fields")?;
        Ok(fields.into_iter().map(str::to_owned).collect())
    };
    for (sign, compare) in operators {
        if let Some((left, right)) = text.split_once(sign) {
            let right = right.trim();
            let value = match unquoted(right) {
                Some(text) => Value::String(text),
                None => serde_json::from_str(right).map_err(|_| format!("unrecognized value {right}"))?,
            };
            return Ok(Step::Filter(path(left)?, Some((compare, value))));
        }
    }
    Ok(Step::Filter(path(text)?, None))
}

impl Step {
    fn below<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
            (Self::All, Value::Array(list)) => list.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (Self::Index(idx), Value::Array(list)) => place(*idx, list.len())
                .and_then(|idx| list.get(idx))
                .into_iter()
                .collect(),
            (Self::Slice(from, to), Value::Array(list)) => {
                let length = list.len();
                let bound = |side: &Option<i64>, open: usize| match side {
                    None => open,
                    Some(idx) if *idx < 0 => length.saturating_sub(idx.unsigned_abs() as usize),
                    Some(idx) => (*idx as usize).min(length),
                };
                let (from, to) = (bound(from, 0), bound(to, length));
                list.get(from..to).unwrap_or_default().iter().collect()
            }
            (Self::Filter(path, test), Value::Array(list)) => list
                .iter()
                .filter(|item| matches(item, path, test.as_ref()))
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn place(idx: i64, length: usize) -> Option<usize> {
    if idx < 0 {
        length.checked_sub(idx.unsigned_abs() as usize)
    } else {
        usize::try_from(idx).ok()
    }
}

fn matches(item: &Value, path: &[String], test: Option<&(Compare, Value)>) -> bool {
    let Some(found) = path.iter().try_fold(item, |place, name| place.get(name)) else {
        return false;
    };
    let Some((compare, wanted)) = test else {
        return true;
    };
    let order = match (found, wanted) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        _ => None,
    };
    match compare {
        Compare::Equal => found == wanted || order == Some(std::cmp::Ordering::Equal),
        Compare::Different => !(found == wanted || order == Some(std::cmp::Ordering::Equal)),
        Compare::Less => order.is_some_and(|o| o.is_lt()),
        Compare::LessOrEqual => order.is_some_and(|o| o.is_le()),
        Compare::Greater => order.is_some_and(|o| o.is_gt()),
        Compare::GreaterOrEqual => order.is_some_and(|o| o.is_ge()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, want: Value) {
        let object =
            json!({"spec": {"a.b": 7, "n": 3, "list": [{"t": "x", "v": 1}, {"t": "y", "v": 2}, {"v": 3}]}});
        let found: Value = match JsonPath::parse(path) {
            Ok(parsed) => parsed.find(&object).into_iter().cloned().collect(),
            Err(error) => error.into(),
        };
        assert_eq!(found, want, "{path}");
    }

    #[test]
    fn paths() {
        check(".spec.n", json!([3]));
        check("{.spec.n}", json!([3]));
        check("spec.n", json!([3]));
        check(".spec.nope.x", json!([]));
        check(r".spec.a\.b", json!([7]));
        check(".spec['a.b']", json!([7]));
        check(".spec.list[0].t", json!(["x"]));
        check(".spec.list[-1].v", json!([3]));
        check(".spec.list[9].v", json!([]));
        check(".spec.list[*].v", json!([1, 2, 3]));
        check(".spec.list[1:].v", json!([2, 3]));
        check(".spec.list[:-1].v", json!([1, 2]));
        check(r#".spec.list[?(@.t=="y")].v"#, json!([2]));
        check(".spec.list[?(@.t=='x')].v", json!([1]));
        check(".spec.list[?(@.v>=2)].v", json!([2, 3]));
        check(".spec.list[?(@.t)].v", json!([1, 2]));
        check(".spec.list[?(@.v!=2)].v", json!([1, 3]));
        check(".spec.list[x]", json!("invalid array index x"));
        check(".spec.list[0", json!("unterminated array"));
        check("..v", json!("recursive descent is not supported"));
    }
}
