//! Links in HTML. Pure.
//!
//! Walks tags and their attributes and replaces the values that are links; everything else leaves as it came. Source:
//! apimachinery's `util/proxy/transport.go`, `atomsToAttrs`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

/// Attributes that are links, by tag.
const LINKS: [(&str, &[&str]); 22] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("script", &["src"]),
];
const MORE_LINKS: [(&str, &[&str]); 4] = [
    ("q", &["cite"]),
    ("source", &["src"]),
    ("track", &["src"]),
    ("video", &["poster", "src"]),
];

/// The document with `link` applied to each link. Linear in its length.
pub fn rewrite(document: &str, link: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(document.len() + 256);
    let mut rest = document;
    while let Some(open) = rest.find('<') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            let end = comment.find("-->").map_or(rest.len(), |at| at + "<!---->".len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let name_end = rest[1..]
            .find(|c: char| !c.is_ascii_alphanumeric())
            .map_or(rest.len(), |at| at + 1);
        let name = rest[1..name_end].to_ascii_lowercase();
        out.push_str(&rest[..name_end]);
        rest = &rest[name_end..];
        if name.is_empty() {
            continue; // a closing tag, a declaration, or just a sign
        }
        let attributes = LINKS
            .iter()
            .chain(&MORE_LINKS)
            .find(|(tag, _)| *tag == name)
            .map_or(&[][..], |(_, attributes)| attributes);
        rest = tag(&mut out, rest, attributes, &link);
        if matches!(&*name, "script" | "style") {
            let end = closing(rest, &name);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Copies the attributes of one tag up to its end; returns what follows.
fn tag<'a>(out: &mut String, mut rest: &'a str, links: &[&str], link: &impl Fn(&str) -> String) -> &'a str {
    loop {
        let skipped = rest
            .find(|c: char| !c.is_ascii_whitespace() && c != '/')
            .unwrap_or(rest.len());
        out.push_str(&rest[..skipped]);
        rest = &rest[skipped..];
        if rest.is_empty() {
            return rest;
        }
        if let Some(after) = rest.strip_prefix('>') {
            out.push('>');
            return after;
        }
        let name_end = rest
            .char_indices()
            .skip(1)
            .find(|(_, c)| c.is_ascii_whitespace() || matches!(c, '=' | '>' | '/'))
            .map_or(rest.len(), |(at, _)| at);
        let name = rest[..name_end].to_ascii_lowercase();
        out.push_str(&rest[..name_end]);
        rest = &rest[name_end..];
        let spaces = rest.len() - rest.trim_ascii_start().len();
        if !rest[spaces..].starts_with('=') {
            continue;
        }
        let from = spaces + 1;
        let from = from + (rest[from..].len() - rest[from..].trim_ascii_start().len());
        out.push_str(&rest[..from]);
        rest = &rest[from..];
        let (quote, body) = match rest.as_bytes().first() {
            Some(b'"') => ("\"", &rest[1..]),
            Some(b'\'') => ("'", &rest[1..]),
            _ => ("", rest),
        };
        let end = if quote.is_empty() {
            body.find(|c: char| c.is_ascii_whitespace() || c == '>')
        } else {
            body.find(quote)
        };
        let end = end.unwrap_or(body.len());
        let value = &body[..end];
        out.push_str(quote);
        if links.contains(&&*name) {
            out.push_str(&link(value));
        } else {
            out.push_str(value);
        }
        let closed = if body[end..].starts_with(quote) { quote } else { "" };
        out.push_str(closed);
        rest = &body[end + closed.len()..];
    }
}

/// Where the content of a script or style ends.
fn closing(rest: &str, name: &str) -> usize {
    let wanted = format!("</{name}");
    let bytes = rest.as_bytes();
    let mut from = 0;
    while let Some(at) = rest[from..].find("</") {
        let at = from + at;
        let end = at + wanted.len();
        if bytes.len() >= end && bytes[at..end].eq_ignore_ascii_case(wanted.as_bytes()) {
            return at;
        }
        from = at + 2;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(document: &str, want: &str) {
        assert_eq!(rewrite(document, |link| format!("[{link}]")), want);
    }

    #[test]
    fn only_links_change() {
        check("<a href=\"/x\">test</a>", "<a href=\"[/x]\">test</a>");
        check("<A class='b' HREF = '/x' >", "<A class='b' HREF = '[/x]' >");
        check("<img src=/a alt=/b>", "<img src=[/a] alt=/b>");
        check("<p href=\"/x\">1 < 2 <a>", "<p href=\"/x\">1 < 2 <a>");
        check(
            "<!-- <a href=\"/x\"> --><a href=\"/y\"/>",
            "<!-- <a href=\"/x\"> --><a href=\"[/y]\"/>",
        );
        check(
            "<script>'<a href=\"/x\">'</script><a href=\"/y\">",
            "<script>'<a href=\"/x\">'</script><a href=\"[/y]\">",
        );
        check("<a href=\"/x", "<a href=\"[/x]");
        check("<a href=", "<a href=[]");
        check("<a ü=ö href='ä'>", "<a ü=ö href='[ä]'>");
        check("<", "<");
        check("plain", "plain");
    }
}
