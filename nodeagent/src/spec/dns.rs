//! Names inside a Pod: its hostname, `/etc/resolv.conf` by `dnsPolicy`, `/etc/hosts`.

use k8s_openapi::api::core::v1::Pod;

use crate::pod::containers::spec;
use crate::runtime::DnsConfig;

/// Longest host name the kernel takes.
const HOSTNAME_MAX: usize = 63;
/// Bounds of `resolv.conf`. Source: Pod validation, `dnsConfig`.
const SERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

/// What the node knows about DNS.
#[derive(Debug, Clone)]
pub struct ClusterDns {
    /// Addresses of the cluster's DNS; empty: there is none, and `ClusterFirst` means `Default`.
    pub servers: Vec<String>,
    /// Default `cluster.local`.
    pub domain: String,
}

impl Default for ClusterDns {
    fn default() -> ClusterDns {
        ClusterDns {
            servers: Vec::new(),
            domain: "cluster.local".to_owned(),
        }
    }
}

pub fn hostname(pod: &Pod) -> String {
    let name = spec(pod)
        .hostname_override
        .as_deref()
        .or(spec(pod).hostname.as_deref())
        .filter(|name| !name.is_empty())
        .or(pod.metadata.name.as_deref())
        .unwrap_or_default();
    let mut name = name.to_owned();
    name.truncate(HOSTNAME_MAX);
    name.trim_end_matches(['-', '.']).to_owned()
}

/// `None` unless the Pod has a `subdomain`.
pub fn fqdn(pod: &Pod, domain: &str) -> Option<String> {
    let subdomain = spec(pod)
        .subdomain
        .as_deref()
        .filter(|subdomain| !subdomain.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("{}.{subdomain}.{namespace}.svc.{domain}", hostname(pod)))
}

/// `host`: the node's own `resolv.conf`. `None`: the runtime's default, which is that file.
pub fn resolver(pod: &Pod, cluster: &ClusterDns, host: &str) -> Option<DnsConfig> {
    let pod_spec = spec(pod);
    let policy = pod_spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host_network = pod_spec.host_network == Some(true);
    let by_cluster = match policy {
        "ClusterFirst" => !host_network,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    } && !cluster.servers.is_empty();
    if !by_cluster && policy != "None" && pod_spec.dns_config.is_none() {
        return None;
    }
    let mut config = if policy == "None" {
        DnsConfig::default()
    } else {
        parse(host)
    };
    if by_cluster {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let domain = &cluster.domain;
        let mut searches = vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ];
        searches.append(&mut config.searches);
        config = DnsConfig {
            servers: cluster.servers.clone(),
            searches,
            options: vec!["ndots:5".to_owned()],
        };
    }
    if let Some(own) = &pod_spec.dns_config {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            let text = match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            };
            config.options.retain(|old| old.split(':').next() != Some(name));
            config.options.push(text);
        }
    }
    dedup(&mut config.servers);
    dedup(&mut config.searches);
    config.servers.truncate(SERVERS_MAX);
    config.searches.truncate(SEARCHES_MAX);
    Some(config)
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|entry| seen.insert(entry.clone()));
}

fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let rest = |words: std::str::SplitWhitespace<'_>| words.map(str::to_owned).collect();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => config.searches = rest(words),
            Some("options") => config.options = rest(words),
            _ => {}
        }
    }
    config
}

/// The file mounted at `/etc/hosts`. `host`: the node's own, taken over on the host network.
pub fn hosts(pod: &Pod, ips: &[String], domain: &str, host: &str) -> String {
    let mut text = if spec(pod).host_network == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{host}")
    } else {
        let mut text = "# Kubernetes-managed hosts file.\n\
             127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\n\
             fe00::2\tip6-allrouters\n"
            .to_owned();
        let name = hostname(pod);
        for ip in ips {
            match fqdn(pod, domain) {
                Some(full) => text.push_str(&format!("{ip}\t{full}\t{name}\n")),
                None => text.push_str(&format!("{ip}\t{name}\n")),
            }
        }
        text
    };
    let aliases = spec(pod).host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(mut pod_spec: Value) -> Pod {
        pod_spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "ns"}, "spec": pod_spec}))
            .expect("a Pod")
    }

    #[track_caller]
    fn check(pod_spec: Value, servers: &[&str], wanted: Option<(&str, &str, &str)>) {
        let cluster = ClusterDns {
            servers: servers.iter().map(|server| (*server).to_owned()).collect(),
            domain: "cluster.local".to_owned(),
        };
        let seen = resolver(
            &pod(pod_spec),
            &cluster,
            "nameserver 9.9.9.9\nsearch corp\noptions edns0\n",
        )
        .map(|config| {
            (
                config.servers.join(" "),
                config.searches.join(" "),
                config.options.join(" "),
            )
        });
        let wanted = wanted.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(seen, wanted);
    }

    #[test]
    fn policies() {
        let all = Some((
            "10.96.0.10",
            "ns.svc.cluster.local svc.cluster.local cluster.local corp",
            "ndots:5",
        ));
        check(json!({}), &["10.96.0.10"], all);
        check(json!({}), &[], None);
        check(json!({"hostNetwork": true}), &["10.96.0.10"], None);
        check(
            json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
            &["10.96.0.10"],
            all,
        );
        let own = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}});
        check(own, &["10.96.0.10"], Some(("1.1.1.1", "a.b", "ndots:2 rotate")));
        let more = json!({"dnsPolicy": "Default", "dnsConfig": {"options": [{"name": "edns0"}]}});
        check(more, &["10.96.0.10"], Some(("9.9.9.9", "corp", "edns0")));
    }

    #[test]
    fn hosts_file() {
        let aliases =
            json!({"subdomain": "web", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]});
        let text = hosts(&pod(aliases), &["10.244.0.9".to_owned()], "cluster.local", "");
        assert!(
            text.contains("\n10.244.0.9\tweb-0.web.ns.svc.cluster.local\tweb-0\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"),
            "{text}"
        );
        let text = hosts(
            &pod(json!({"hostNetwork": true})),
            &[],
            "cluster.local",
            "127.0.0.1 me\n",
        );
        assert_eq!(
            text,
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n"
        );
    }
}
