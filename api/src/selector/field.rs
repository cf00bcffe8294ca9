//! Field selectors: `metadata.name=a,status.phase!=Running`. Source: `k8s.io/apimachinery/pkg/fields`.

use std::fmt;

/// One condition: the field equals, or does not equal, the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    pub value: String,
    pub equal: bool,
}

/// All requirements must hold; none match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Parses the query form. `Err` is Kubernetes' text.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for part in split_unescaped(query) {
            if part.is_empty() {
                continue;
            }
            let (field, equal, value) = split_operator(part)
                .ok_or_else(|| format!("invalid selector: '{query}'; can't understand '{part}'"))?;
            requirements.push(FieldRequirement {
                field: field.into(),
                equal,
                value: unescape(value)?,
            });
        }
        Ok(Self { requirements })
    }

    /// `lookup` gives a field's value; a field the object lacks is the empty string.
    pub fn matches<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|r| (lookup(&r.field).unwrap_or_default() == r.value) == r.equal)
    }

    /// The value a field must have, when the selector says so (`metadata.name=a`).
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|r| r.equal && r.field == field)
            .map(|r| r.value.as_str())
    }
}

fn split_unescaped(query: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (idx, b) in query.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(&query[start..idx]);
                start = idx + 1;
            }
            _ => {}
        }
    }
    parts.push(&query[start..]);
    parts
}

fn split_operator(part: &str) -> Option<(&str, bool, &str)> {
    let mut escaped = false;
    for (idx, b) in part.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'=' | b'!' => {
                for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
                    if let Some(value) = part[idx..].strip_prefix(operator) {
                        return Some((&part[..idx], equal, value));
                    }
                }
            }
            _ => {}
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let found = other.map(String::from).unwrap_or_default();
                    return Err(format!("invalid escape sequence: \\{found}"));
                }
            },
            ',' | '=' => return Err(format!("unescaped character in field selector: {c}")),
            c => out.push(c),
        }
    }
    Ok(out)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, r) in self.requirements.iter().enumerate() {
            if idx > 0 {
                f.write_str(",")?;
            }
            let value = r
                .value
                .replace('\\', "\\\\")
                .replace(',', "\\,")
                .replace('=', "\\=");
            write!(f, "{}{}{}", r.field, if r.equal { "=" } else { "!=" }, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, fields: &[(&str, &str)], want: bool) {
        let selector = FieldSelector::parse(query).unwrap();
        let lookup = |name: &str| fields.iter().find(|(f, _)| *f == name).map(|(_, v)| *v);
        assert_eq!(selector.matches(lookup), want, "{query}");
        assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn queries() {
        let pod = [
            ("metadata.name", "a"),
            ("status.phase", "Running"),
            ("x", "a,b=c"),
        ];
        check("", &pod, true);
        check("metadata.name=a", &pod, true);
        check("metadata.name==a,status.phase!=Pending", &pod, true);
        check("status.phase!=Running", &pod, false);
        check("spec.nodeName=", &pod, true);
        check(r"x=a\,b\=c", &pod, true);
        for bad in ["a", "a=b=c", r"a=\x", "a,b=c"] {
            assert!(FieldSelector::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            FieldSelector::parse("a=b,c!=d").unwrap().required_value("a"),
            Some("b")
        );
    }
}
