//! What each built-in signer takes. Pure; the texts are upstream's.
//!
//! Source: Kubernetes `pkg/apis/certificates/helpers.go`, `pkg/controller/certificates/signer`.

use std::collections::BTreeSet;

use corten_api::kinds::certificates::request::Names;

pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";
pub const NODES: &str = "system:nodes";
pub const NODE_PREFIX: &str = "system:node:";

/// Whether `signer` is one of ours.
pub fn is_ours(signer: &str) -> bool {
    [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN].contains(&signer)
}

/// # Errors
/// Why the signer does not sign this.
pub fn check(signer: &str, names: &Names, usages: &[String]) -> Result<(), String> {
    match signer {
        CLIENT => client(usages),
        KUBELET_CLIENT => kubelet_client(names, usages),
        KUBELET_SERVING => kubelet_serving(names, usages),
        _ => Ok(()),
    }
}

fn client(usages: &[String]) -> Result<(), String> {
    let allowed = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !allowed.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.iter().any(|usage| usage == "client auth") {
        return Err("missing required usage for client certificate: client auth".into());
    }
    Ok(())
}

/// # Errors
/// Why this is no node's request for a client certificate.
pub fn kubelet_client(names: &Names, usages: &[String]) -> Result<(), String> {
    of_nodes(names)?;
    for (count, what) in [
        (names.dns, "DNS"),
        (names.emails, "Email"),
        (names.ips, "IP"),
        (names.uris, "URI"),
    ] {
        if count > 0 {
            return Err(format!("{what} subjectAltNames are not allowed"));
        }
    }
    of_a_node(names)?;
    exactly(usages, "client auth")
}

fn kubelet_serving(names: &Names, usages: &[String]) -> Result<(), String> {
    of_nodes(names)?;
    if names.dns + names.ips == 0 {
        return Err("DNS or IP subjectAltName is required".into());
    }
    for (count, what) in [(names.emails, "Email"), (names.uris, "URI")] {
        if count > 0 {
            return Err(format!("{what} subjectAltNames are not allowed"));
        }
    }
    exactly(usages, "server auth")?;
    of_a_node(names)
}

fn of_nodes(names: &Names) -> Result<(), String> {
    match names.organizations.as_slice() {
        [only] if only == NODES => Ok(()),
        _ => Err("subject organization is not system:nodes".into()),
    }
}

fn of_a_node(names: &Names) -> Result<(), String> {
    match names.common_name.starts_with(NODE_PREFIX) {
        true => Ok(()),
        false => Err("subject common name does not begin with system:node:".into()),
    }
}

/// The usages of a node's certificate; a key that cannot encipher need not ask for it.
fn exactly(usages: &[String], purpose: &str) -> Result<(), String> {
    let asked: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let mut wanted = BTreeSet::from(["digital signature", purpose]);
    let without = asked == wanted;
    wanted.insert("key encipherment");
    if without || asked == wanted {
        return Ok(());
    }
    let mut list: Vec<&str> = wanted.into_iter().collect();
    list.sort_unstable();
    Err(format!("usages did not match [{}]", list.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(change: impl FnOnce(&mut Names)) -> Names {
        let mut names = Names {
            common_name: "system:node:n".into(),
            organizations: vec![NODES.into()],
            ..Names::default()
        };
        change(&mut names);
        names
    }

    /// `want` is the error, empty for none.
    #[track_caller]
    fn check(signer: &str, names: &Names, usages: &str, want: &str) {
        let usages: Vec<String> = usages.split(',').map(str::to_owned).collect();
        let got = super::check(signer, names, &usages);
        assert_eq!(got.err().unwrap_or_default(), want, "{signer} {usages:?}");
    }

    #[test]
    fn clients() {
        let any = Names::default();
        check(CLIENT, &any, "client auth", "");
        check(CLIENT, &any, "client auth,digital signature,key encipherment", "");
        check(
            CLIENT,
            &any,
            "client auth,server auth",
            "invalid usage for client certificate: server auth",
        );
        check(
            CLIENT,
            &any,
            "digital signature",
            "missing required usage for client certificate: client auth",
        );
    }

    #[test]
    fn nodes_as_clients() {
        let usages = "client auth,digital signature";
        let check = |names: &Names, usages: &str, want: &str| check(KUBELET_CLIENT, names, usages, want);
        check(&node(|_| {}), usages, "");
        check(
            &node(|_| {}),
            "client auth,digital signature,key encipherment",
            "",
        );
        check(
            &node(|_| {}),
            "client auth",
            "usages did not match [client auth digital signature key encipherment]",
        );
        check(
            &node(|n| n.organizations.push("system:masters".into())),
            usages,
            "subject organization is not system:nodes",
        );
        check(
            &node(|n| n.organizations.clear()),
            usages,
            "subject organization is not system:nodes",
        );
        check(
            &node(|n| n.dns = 1),
            usages,
            "DNS subjectAltNames are not allowed",
        );
        check(&node(|n| n.ips = 1), usages, "IP subjectAltNames are not allowed");
        check(
            &node(|n| n.common_name = "admin".into()),
            usages,
            "subject common name does not begin with system:node:",
        );
    }

    #[test]
    fn nodes_as_servers() {
        let usages = "server auth,digital signature";
        let check = |names: &Names, usages: &str, want: &str| check(KUBELET_SERVING, names, usages, want);
        check(&node(|n| n.dns = 1), usages, "");
        check(&node(|_| {}), usages, "DNS or IP subjectAltName is required");
        check(
            &node(|n| (n.ips, n.uris) = (1, 1)),
            usages,
            "URI subjectAltNames are not allowed",
        );
        check(
            &node(|n| n.ips = 1),
            "client auth,digital signature",
            "usages did not match [digital signature key encipherment server auth]",
        );
    }

    #[test]
    fn signers() {
        assert!(is_ours(LEGACY_UNKNOWN) && !is_ours("example.com/x"));
        check(LEGACY_UNKNOWN, &Names::default(), "any", "");
    }
}
