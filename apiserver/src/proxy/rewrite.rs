//! Links in answers of proxied servers, so that they lead back through the proxy. Pure.
//!
//! Source: apimachinery's `util/proxy/transport.go`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

/// What a link is seen from.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// `/api/v1/namespaces/.../proxy`.
    pub prefix: &'a str,
    /// The host the proxied server believes it is.
    pub upstream: &'a str,
    /// The host the client asked.
    pub client: &'a str,
}

impl Base<'_> {
    /// The link as the client has to follow it. Relative ones and those to other hosts stay.
    pub fn link(&self, link: &str) -> String {
        let (scheme, rest) = match link.split_once("://") {
            Some((scheme, rest))
                if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric()) =>
            {
                (Some(scheme), rest)
            }
            _ => (None, link.strip_prefix("//").unwrap_or("")),
        };
        let absolute = scheme.is_some() || link.starts_with("//");
        let (host, path) = if absolute {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            rest.split_at(end)
        } else {
            ("", link)
        };
        let ours = host.is_empty() || host == self.upstream || host == self.client;
        if !ours || !path.starts_with('/') || path.starts_with(self.prefix) {
            return link.to_owned();
        }
        let through = format!("{}{path}", self.prefix);
        match scheme {
            // The client's way to us is TLS, whatever the server behind speaks.
            Some(_) => format!("https://{}{through}", self.client),
            None if absolute => format!("//{}{through}", self.client),
            None => through,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(link: &str, want: &str) {
        let base = Base {
            prefix: "/p/proxy",
            upstream: "10.0.0.1:80",
            client: "api:6443",
        };
        assert_eq!(base.link(link), want);
    }

    #[test]
    fn links_lead_through_the_proxy() {
        check("/a/b?c=d#e", "/p/proxy/a/b?c=d#e");
        check("/", "/p/proxy/");
        check("a/b", "a/b");
        check("?x=/y", "?x=/y");
        check("/p/proxy/a", "/p/proxy/a");
        check("http://10.0.0.1:80/a", "https://api:6443/p/proxy/a");
        check("http://elsewhere/a", "http://elsewhere/a");
        check("//10.0.0.1:80/a", "//api:6443/p/proxy/a");
        check("https://api:6443/a/", "https://api:6443/p/proxy/a/");
        check("mailto:a@b", "mailto:a@b");
        check("", "");
    }
}
