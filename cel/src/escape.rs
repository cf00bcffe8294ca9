//! Names of fields as expressions write them.
//!
//! Source: `k8s.io/apiserver/pkg/cel/escaping.go`.

use std::borrow::Cow;

/// CEL's own words, which no field can be called.
const WORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name an expression uses for a field, `None` for a field no expression can name.
pub fn escape(name: &str) -> Option<Cow<'_, str>> {
    let first = name.chars().next()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-/$".contains(c);
    if first.is_ascii_digit() || !name.chars().all(fits) {
        return None;
    }
    if WORDS.contains(&name) {
        return Some(format!("__{name}__").into());
    }
    if !name.contains("__") && !name.contains(['.', '-', '/', '$']) {
        return Some(name.into());
    }
    let mut out = String::with_capacity(name.len() + 16);
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let (text, taken) = match c {
            '_' if rest.starts_with("__") => ("__underscores__", 2),
            '.' => ("__dot__", 1),
            '-' => ("__dash__", 1),
            '/' => ("__slash__", 1),
            '$' => ("__dollar__", 1),
            _ => (&rest[..1], 1),
        };
        out.push_str(text);
        rest = &rest[taken..];
    }
    Some(out.into())
}

/// The escaped form of one of CEL's own words. Where a field is selected, the word itself may stand for it.
pub fn escaped_word(name: &str) -> Option<String> {
    WORDS.contains(&name).then(|| format!("__{name}__"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, wanted: Option<&str>) {
        assert_eq!(escape(name).as_deref(), wanted, "{name}");
    }

    #[test]
    fn names() {
        check("plain", Some("plain"));
        check("a-b", Some("a__dash__b"));
        check("a.b/c", Some("a__dot__b__slash__c"));
        check("a__b", Some("a__underscores__b"));
        check("___", Some("__underscores___"));
        check("namespace", Some("__namespace__"));
        check("int", Some("int"));
        check("1a", None);
        check("a b", None);
        check("é", None);
    }
}
