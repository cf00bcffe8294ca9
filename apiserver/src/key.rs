//! Store keys. Knows the key scheme only.
//!
//! `/{group or "core"}/{resource}/{namespace}/{name}`, without the namespace part for cluster scope. Records that are no
//! objects live below `/corten.dev.internal/`, a group no client can reach.

use std::ops::Range;

use bytes::Bytes;

/// What may be written even when the disk is full: without it nodes and leaders would be taken for dead.
pub const VITAL_PREFIXES: &[&str] = &["/coordination.k8s.io/leases/"];

/// One resource's place in the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys<'a> {
    pub group: &'a str,
    pub resource: &'a str,
    pub namespaced: bool,
}

impl Keys<'_> {
    /// The key of one object; `namespace` counts only for namespaced resources.
    #[must_use]
    pub fn object(&self, namespace: Option<&str>, name: &str) -> Bytes {
        let mut key = self.prefix(namespace);
        key.push_str(name);
        Bytes::from(key)
    }

    /// The start of every key in `namespace`, or of all of the resource.
    #[must_use]
    pub fn prefix(&self, namespace: Option<&str>) -> String {
        let group = if self.group.is_empty() { "core" } else { self.group };
        let mut key = String::with_capacity(96);
        for part in ["/", group, "/", self.resource, "/"] {
            key.push_str(part);
        }
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            key.push_str(namespace);
            key.push('/');
        }
        key
    }

    /// Every object in `namespace`, or of all of the resource.
    #[must_use]
    pub fn range(&self, namespace: Option<&str>) -> Range<Bytes> {
        prefix_range(&self.prefix(namespace))
    }
}

/// All keys that start with `prefix`, which ends with `/`.
#[must_use]
pub fn prefix_range(prefix: &str) -> Range<Bytes> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1; // '/' becomes '0'
    }
    Bytes::copy_from_slice(prefix.as_bytes())..Bytes::from(end)
}

/// All objects of all resources, and the records beside them.
pub const REGISTRY: &str = "/";
/// The group of records that are no objects.
const INTERNAL: &str = "corten.dev.internal";

/// Group and plural of the object a key belongs to; `None` for a record that is no object.
#[must_use]
pub fn resource(key: &[u8]) -> Option<(&str, &str)> {
    let key = std::str::from_utf8(key).ok()?.strip_prefix('/')?;
    let (group, rest) = key.split_once('/')?;
    let (plural, _) = rest.split_once('/')?;
    match group {
        INTERNAL => None,
        "core" => Some(("", plural)),
        group => Some((group, plural)),
    }
}

/// Where Service addresses were recorded before there were IPAddress objects.
#[must_use]
pub fn old_service_addresses() -> Range<Bytes> {
    prefix_range("/corten.dev.internal/serviceips/")
}

/// All records of node ports.
#[must_use]
pub fn node_ports() -> Range<Bytes> {
    prefix_range("/corten.dev.internal/nodeports/")
}

/// Where one node port is recorded as taken, for all protocols at once as upstream does.
#[must_use]
pub fn node_port(port: u16) -> Bytes {
    Bytes::from(format!("/corten.dev.internal/nodeports/{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: Keys<'static> = Keys {
        group: "",
        resource: "pods",
        namespaced: true,
    };
    const NODES: Keys<'static> = Keys {
        group: "",
        resource: "nodes",
        namespaced: false,
    };

    #[track_caller]
    fn check(keys: Keys<'_>, namespace: Option<&str>, name: &str, want: &str) {
        let key = keys.object(namespace, name);
        assert_eq!(key, want);

        assert!(keys.range(namespace).contains(&key));
        assert!(keys.range(None).contains(&key));
    }

    #[test]
    fn keys() {
        check(PODS, Some("a"), "b", "/core/pods/a/b");
        check(NODES, None, "n", "/core/nodes/n");
        check(
            Keys {
                group: "apps",
                resource: "deployments",
                namespaced: true,
            },
            Some("a"),
            "b",
            "/apps/deployments/a/b",
        );
        assert!(!PODS.range(Some("a")).contains(&PODS.object(Some("a0"), "b")));
        assert!(!NODES.range(None).contains(&PODS.object(Some("a"), "b")));
    }
}
