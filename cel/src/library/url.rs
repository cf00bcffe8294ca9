//! URLs as Go's `net/url` reads them.

use super::operators::text;
use super::{Call, Entry, format::go_quoted};
use crate::error::{Eval, EvalError};
use crate::opaque::Opaque;
use crate::value::{Key, Map, Str, Value};

pub const TABLE: &[Entry] = &[
    Entry("url", make, "string_to_url (string) kubernetes.URL"),
    Entry(
        "isURL",
        |_, a| Ok(Value::Bool(Url::parse_request(text(&a[0])?).is_ok())),
        "is_url_string (string) bool",
    ),
    Entry(
        "getScheme",
        |_, a| part(a, |url| url.scheme.clone()),
        "url_get_scheme kubernetes.URL.() string",
    ),
    Entry(
        "getHost",
        |_, a| part(a, |url| url.host.clone()),
        "url_get_host kubernetes.URL.() string",
    ),
    Entry(
        "getHostname",
        |_, a| part(a, Url::hostname),
        "url_get_hostname kubernetes.URL.() string",
    ),
    Entry(
        "getPort",
        |_, a| part(a, Url::port),
        "url_get_port kubernetes.URL.() string",
    ),
    Entry(
        "getEscapedPath",
        |_, a| part(a, |url| url.path.clone()),
        "url_get_escaped_path kubernetes.URL.() string",
    ),
    Entry(
        "getQuery",
        query,
        "url_get_query kubernetes.URL.() map(string, list(string))",
    ),
];

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Url {
    pub scheme: String,
    user: String,
    /// With its port.
    pub host: String,
    /// As it was escaped.
    pub path: String,
    pub query: String,
    fragment: String,
}

impl Url {
    /// An absolute URL or path, as `url.ParseRequestURI` takes it; what it holds is read as `url.Parse` does.
    ///
    /// # Errors
    /// Go's text.
    pub fn parse_request(own: &str) -> Result<Url, String> {
        let fail = |why: &str| format!("parse {}: {why}", go_quoted(own));
        if own.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return Err(fail("net/url: invalid control character in URL"));
        }
        if own.is_empty() {
            return Err(fail("empty url"));
        }
        let (own, fragment) = match own.split_once('#') {
            Some((head, fragment)) => (head, fragment),
            None => (own, ""),
        };
        let mut url = Url {
            fragment: fragment.to_owned(),
            ..Url::default()
        };
        let rest = scheme(own).map_err(|()| fail("missing protocol scheme"))?;
        let rest = match rest {
            Some((scheme, rest)) => {
                url.scheme = scheme.to_ascii_lowercase();
                rest
            }
            None => own,
        };
        let rest = match rest.split_once('?') {
            Some((head, query)) => {
                url.query = query.to_owned();
                head
            }
            None => rest,
        };
        if !rest.starts_with('/') {
            if url.scheme.is_empty() {
                return Err(fail("invalid URI for request"));
            }
            return Ok(url);
        }
        let mut path = rest;
        let authority = rest
            .strip_prefix("//")
            .filter(|_| !url.scheme.is_empty() || !rest.starts_with("///"));
        if let Some(authority) = authority {
            let end = authority.find('/').unwrap_or(authority.len());
            path = &authority[end..];
            let (user, host) = authority[..end]
                .rsplit_once('@')
                .unwrap_or(("", &authority[..end]));
            url.user = user.to_owned();
            url.host = checked_host(host).map_err(|why| fail(&why))?;
        }
        check_escapes(path).map_err(|why| fail(&why))?;
        url.path = escaped(path);
        Ok(url)
    }

    fn hostname(&self) -> String {
        let host = &self.host;
        if let Some(inner) = host.strip_prefix('[') {
            return inner.split(']').next().unwrap_or_default().to_owned();
        }
        host.rsplit_once(':')
            .map_or(host.as_str(), |(name, _)| name)
            .to_owned()
    }

    fn port(&self) -> String {
        let after = self.host.rsplit(']').next().unwrap_or_default();
        after.rsplit_once(':').map_or("", |(_, port)| port).to_owned()
    }
}

/// The scheme and what follows; an error for a colon with nothing before it.
fn scheme(own: &str) -> Result<Option<(&str, &str)>, ()> {
    for (idx, c) in own.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if idx > 0 => {}
            ':' if idx == 0 => return Err(()),
            ':' => return Ok(Some((&own[..idx], &own[idx + 1..]))),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

fn checked_host(host: &str) -> Result<String, String> {
    let port = if let Some(inner) = host.strip_prefix('[') {
        match inner.rsplit_once(']') {
            Some((_, after)) => after,
            None => return Err("missing ']' in host".into()),
        }
    } else {
        host.find(':').map_or("", |at| &host[at..])
    };
    let digits = port
        .strip_prefix(':')
        .map(|own| own.bytes().all(|b| b.is_ascii_digit()));
    if !port.is_empty() && digits != Some(true) {
        return Err(format!("invalid port {} after host", go_quoted(port)));
    }
    if let Some(bad) = host
        .chars()
        .find(|c| " \"\\^`{|}<>".contains(*c) && !(host.starts_with('[') && "<>".contains(*c)))
    {
        return Err(format!(
            "invalid character {} in host name",
            go_quoted(&bad.to_string())
        ));
    }
    check_escapes(host)?;
    Ok(host.to_owned())
}

fn check_escapes(own: &str) -> Result<(), String> {
    let mut rest = own;
    while let Some(at) = rest.find('%') {
        let tail = &rest[at..];
        let digits = tail
            .get(1..3)
            .is_some_and(|own| own.bytes().all(|b| b.is_ascii_hexdigit()));
        if !digits {
            let shown: String = tail.chars().take(3).collect();
            return Err(format!("invalid URL escape {}", go_quoted(&shown)));
        }
        rest = &tail[3..];
    }
    Ok(())
}

/// What a path may not hold is escaped.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for b in path.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

fn make<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    match Url::parse_request(text(&args[0])?) {
        Ok(url) => Ok(Value::Opaque(Opaque::Url(url.into()))),
        Err(error) => Err(EvalError::new(format!(
            "URL parse error during conversion from string: {error}"
        ))),
    }
}

fn part<'a>(args: &[Value<'a>], of: fn(&Url) -> String) -> Eval<Value<'a>> {
    match &args[0] {
        Value::Opaque(Opaque::Url(own)) => Ok(Value::str(of(own))),
        _ => Err(EvalError::no_overload()),
    }
}

fn unescaped(own: &str) -> Option<String> {
    let mut out = Vec::with_capacity(own.len());
    let mut bytes = own.bytes();
    while let Some(b) = bytes.next() {
        out.push(match b {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8
            }
            b => b,
        });
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn query<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let Value::Opaque(Opaque::Url(own)) = &args[0] else {
        return Err(EvalError::no_overload());
    };
    let mut found: std::collections::BTreeMap<String, Vec<Value<'a>>> = std::collections::BTreeMap::new();
    for pair in own
        .query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
    {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescaped(key), unescaped(value)) {
            found.entry(key).or_default().push(Value::str(value));
        }
    }
    let map = found
        .into_iter()
        .map(|(key, values)| (Key::String(Str::Own(key.into())), Value::list(values)));
    Ok(Value::Map(Map::Own(std::sync::Arc::new(map.collect()))))
}
