//! Rules for names, labels and keys. Each check returns Kubernetes' texts of what is wrong, none when all is well.
//!
//! Source: `k8s.io/apimachinery/pkg/util/validation`.

/// Longest DNS label, label value or name part of a key, in bytes.
pub const MAX_LABEL: usize = 63;
/// Longest DNS subdomain, in bytes.
pub const MAX_SUBDOMAIN: usize = 253;
/// Longest base of a generated name: 63 less the five random characters.
pub const MAX_GENERATED_BASE: usize = MAX_LABEL - GENERATED_SUFFIX;
/// Random characters appended to a `generateName`.
pub const GENERATED_SUFFIX: usize = 5;
/// Characters a generated suffix is made of: no vowels, nothing easily mistaken.
pub const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const WILDCARD_TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY_TEXT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME_TEXT: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const C_IDENTIFIER_TEXT: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";

/// `must be no more than N bytes`, the text of every length rule here.
pub fn max_len_text(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// `must be between A and B, inclusive`.
pub fn inclusive_range_text(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn lower_or_digit(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            lower_or_digit(*first)
                && lower_or_digit(*last)
                && bytes.iter().all(|b| lower_or_digit(*b) || *b == b'-')
        }
        _ => false,
    }
}

/// A lowercase RFC 1123 label: at most 63 bytes.
pub fn dns_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > MAX_LABEL {
        errors.push(max_len_text(MAX_LABEL));
    }
    if !is_label(text) {
        // A name that is a subdomain but no label is told the plain rule: no dots.
        if text.contains('.') && text.split('.').all(is_label) {
            errors.push("must not contain dots".into());
        } else {
            errors.push(LABEL_TEXT.into());
        }
    }
    errors
}

/// A lowercase RFC 1123 subdomain: labels joined by dots, at most 253 bytes.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > MAX_SUBDOMAIN {
        errors.push(max_len_text(MAX_SUBDOMAIN));
    }
    if !text.split('.').all(is_label) {
        errors.push(SUBDOMAIN_TEXT.into());
    }
    errors
}

/// A DNS subdomain whose first label is `*`.
pub fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > MAX_SUBDOMAIN {
        errors.push(max_len_text(MAX_SUBDOMAIN));
    }
    if !text
        .strip_prefix("*.")
        .is_some_and(|rest| rest.split('.').all(is_label))
    {
        errors.push(WILDCARD_TEXT.into());
    }
    errors
}

/// An RFC 1035 label: a DNS label that starts with a letter.
pub fn dns_1035_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > MAX_LABEL {
        errors.push(max_len_text(MAX_LABEL));
    }
    if !(is_label(text) && text.as_bytes()[0].is_ascii_lowercase()) {
        errors.push(LABEL_1035_TEXT.into());
    }
    errors
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

/// A label, annotation or taint key: `name` or `prefix/name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a valid label key {QUALIFIED_TEXT} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            errors.push("prefix part must be non-empty".into());
            name
        }
        Some((prefix, name)) => {
            errors.extend(
                dns_subdomain(prefix)
                    .into_iter()
                    .map(|e| format!("prefix part {e}")),
            );
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".into());
    } else if name.len() > MAX_LABEL {
        errors.push(format!("name part {}", max_len_text(MAX_LABEL)));
    }
    if !is_qualified_part(name) {
        errors.push(format!("name part {QUALIFIED_TEXT}"));
    }
    errors
}

/// A label value: empty, or at most 63 bytes of the qualified-name alphabet.
pub fn label_value(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > MAX_LABEL {
        errors.push(max_len_text(MAX_LABEL));
    }
    if !text.is_empty() && !is_qualified_part(text) {
        errors.push(LABEL_VALUE_TEXT.into());
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > MAX_SUBDOMAIN {
        errors.push(max_len_text(MAX_SUBDOMAIN));
    }
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(known) {
        errors.push(CONFIG_KEY_TEXT.into());
    } else if text == "." {
        errors.push("must not be '.'".into());
    } else if text == ".." {
        errors.push("must not be '..'".into());
    } else if text.starts_with("..") {
        errors.push("must not start with '..'".into());
    }
    errors
}

/// An environment variable's name, by the relaxed rule: printable ASCII without `=`.
pub fn env_var_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        Vec::new()
    } else {
        vec![ENV_NAME_TEXT.into()]
    }
}

/// An identifier as C has it.
pub fn c_identifier(text: &str) -> Vec<String> {
    let head = text
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if head && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        Vec::new()
    } else {
        vec![C_IDENTIFIER_TEXT.into()]
    }
}

/// A port's name by RFC 6335: at most 15 of `a-z0-9-`, at least one letter, no doubled or outer hyphens.
pub fn port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push(max_len_text(15));
    }
    if text.is_empty() || !text.bytes().all(|b| lower_or_digit(b) || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".into());
    }
    errors
}

/// A port number: 1 to 65535.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec![inclusive_range_text(1, 65535)]
    }
}

/// A name that ends up as one path element of a URL (Secrets' keys, some resource names).
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|c| text.contains(**c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// An IP address in its usual form.
pub fn ip(text: &str) -> Vec<String> {
    match text.parse::<std::net::IpAddr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()],
    }
}

/// An HTTP header's name.
pub fn http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        Vec::new()
    } else {
        vec!["a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')".into()]
    }
}

/// The name made from a `generateName` and five characters of [`SUFFIX_ALPHABET`]; a long base is cut to 58 bytes.
pub fn generated(base: &str, suffix: &str) -> String {
    let mut end = base.len().min(MAX_GENERATED_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &base[..end])
}

/// A generateName is checked as a name would be whose last two characters, if it ends in a hyphen, are one letter.
pub fn mask_trailing_dash(name: &str) -> String {
    match name.strip_suffix('-').map(|head| head.char_indices().next_back()) {
        Some(Some((at, _))) => format!("{}a", &name[..at]),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Vec::<String>::new(), "{text:?} is good");
        }
        for text in bad {
            assert!(!rule(text).is_empty(), "{text:?} is bad");
        }
    }

    #[test]
    fn names() {
        let long = "a".repeat(64);
        let longer = "a".repeat(254);
        check(
            dns_label,
            &["a", "a-b", "0"],
            &["", "-a", "a-", "A", "a.b", "a_b", &long],
        );
        check(
            dns_subdomain,
            &["a", "a.b", "a-1.b", &long],
            &["", ".", "a.", "a..b", "A", &longer],
        );
        check(
            wildcard_subdomain,
            &["*.a", "*.a.b"],
            &["*", "a.b", "*.", "*.A", "a.*.b"],
        );
        check(dns_1035_label, &["a", "a1-b"], &["1a", "a.b", ""]);
        check(
            qualified_name,
            &["a", "A_b.c", "x.io/a"],
            &["", "/a", "a/", "a/b/c", "X.io/a", "-a"],
        );
        check(label_value, &["", "a", "A_b.c"], &["-", "a b", &long]);
        check(config_key, &["a", ".a", "a..b"], &["", ".", "..", "..a", "a/b"]);
        check(
            port_name,
            &["http", "a-1"],
            &["", "1", "a--b", "-a", "abcdefghijklmnop", "HTTP"],
        );
        check(env_var_name, &["A", "a.b-c", "1"], &["", "a=b", "é"]);
        check(ip, &["1.2.3.4", "::1"], &["1.2.3", "01.2.3.4", "x"]);
    }

    #[test]
    fn generated_names_fit_a_label() {
        assert_eq!(generated("web-", "x7k2p"), "web-x7k2p");
        assert_eq!(generated(&"a".repeat(80), "x7k2p").len(), MAX_LABEL);
        assert_eq!(generated("é".repeat(40).as_str(), "x7k2p").len(), MAX_LABEL);
    }
}
