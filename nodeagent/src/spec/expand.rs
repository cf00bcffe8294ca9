//! `$(NAME)` references in command, args, env values and subPathExpr.

/// Replaces references that `lookup` knows; `$$` stands for one `$`; everything else stays as written.
/// Source: "Define Dependent Environment Variables".
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wanted: &str) {
        let lookup = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        assert_eq!(expand(text, lookup), wanted);
    }

    #[test]
    fn references_escapes_and_oddities() {
        check("x$(A)y$(A)", "x1y1");
        check("$(NONE)", "$(NONE)");
        check("$$(A) $$$(A)", "$(A) $1");
        check("$(EMPTY)|$A|$(A", "|$A|$(A");
        check("end$", "end$");
    }
}
