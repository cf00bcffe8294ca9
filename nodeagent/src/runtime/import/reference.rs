//! Names of images: the short forms people write, in the full form that runtimes store. Pure.

/// Longest name without tag. Source: OCI distribution specification, also Docker's limit.
const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {name:?}: invalid reference format{detail}")]
pub struct InvalidReference {
    name: String,
    detail: &'static str,
}

/// `nginx` → `docker.io/library/nginx:latest`. With both tag and digest, the digest stays, as in containerd.
pub fn normalise(name: &str) -> Result<String, InvalidReference> {
    let error = |detail| InvalidReference {
        name: name.to_string(),
        detail,
    };
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) if is_digest(digest) => (rest, Some(digest)),
        Some(_) => return Err(error(": bad digest")),
        None => (name, None),
    };
    // A colon after the last slash starts the tag; one before it belongs to the registry's port.
    let (rest, tag) = match rest.rsplit_once(':') {
        Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(error(": bad tag"));
    }
    let (domain, path) = match rest.split_once('/') {
        Some((first, path)) if is_domain(first) => (first, path.to_string()),
        _ => ("docker.io", rest.to_string()),
    };
    let domain = if domain == "index.docker.io" {
        "docker.io"
    } else {
        domain
    };
    let path = match path {
        path if domain == "docker.io" && !path.contains('/') => format!("library/{path}"),
        path => path,
    };
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(error(": repository name must be lowercase"));
    }
    if !path.split('/').all(is_component) {
        return Err(error(""));
    }
    if domain.len() + 1 + path.len() > NAME_LIMIT {
        return Err(error(": repository name must not be more than 255 characters"));
    }
    Ok(match (digest, tag) {
        (Some(digest), _) => format!("{domain}/{path}@{digest}"),
        (None, tag) => format!("{domain}/{path}:{}", tag.unwrap_or("latest")),
    })
}

/// Whether the part before the first slash names a registry.
fn is_domain(first: &str) -> bool {
    let looks = first == "localhost" || first.contains(['.', ':']) || first.starts_with('[');
    let (host, port) = first.rsplit_once(':').unwrap_or((first, "0"));
    looks
        && !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-.[]:".contains(c))
        && port.chars().all(|c| c.is_ascii_digit())
}

/// Lower case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let joins: Vec<&str> = component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|s| !s.is_empty())
        .collect();
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(outer)
        && component.ends_with(outer)
        && joins
            .iter()
            .all(|j| matches!(*j, "." | "_" | "__") || j.chars().all(|c| c == '-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= TAG_LIMIT && tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_digest(digest: &str) -> bool {
    let hex = |h: &str| h.len() == 64 && h.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    digest.strip_prefix("sha256:").is_some_and(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: &str) {
        assert_eq!(
            normalise(name).unwrap_or_else(|e| e.detail.to_string()),
            expected,
            "{name}"
        );
    }

    #[test]
    fn short_names_become_full() {
        check("busybox", "docker.io/library/busybox:latest");
        check("busybox:1.36", "docker.io/library/busybox:1.36");
        check("user/app", "docker.io/user/app:latest");
        check("index.docker.io/app", "docker.io/library/app:latest");
        check("localhost/app:1", "localhost/app:1");
        check("localhost:5000/app", "localhost:5000/app:latest");
        check("corten.dev/pause:1", "corten.dev/pause:1");
        check("quay.io/a/b/c__d-e.f:v1", "quay.io/a/b/c__d-e.f:v1");
        let digest = format!("sha256:{}", "a".repeat(64));
        check(
            &format!("app:1@{digest}"),
            &format!("docker.io/library/app@{digest}"),
        );
    }

    #[test]
    fn bad_names_are_refused() {
        check("", "");
        check("App", ": repository name must be lowercase");
        check("app:", ": bad tag");
        check("app@sha256:12", ": bad digest");
        check("a//b", "");
        check("a/_b", "");
        check("a b", "");
        check("a..b", "");
        check(
            &"a".repeat(300),
            ": repository name must not be more than 255 characters",
        );
    }
}
