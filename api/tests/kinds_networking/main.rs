//! The kinds of the networking group: defaults, invalid objects, updates, columns.

mod addresses;
#[path = "../common/mod.rs"]
mod common;
mod ingresses;
mod policies;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const INGRESS: Name = ("networking.k8s.io/v1", "Ingress");
const INGRESS_CLASS: Name = ("networking.k8s.io/v1", "IngressClass");
const POLICY: Name = ("networking.k8s.io/v1", "NetworkPolicy");
const CIDR: Name = ("networking.k8s.io/v1", "ServiceCIDR");
const ADDRESS: Name = ("networking.k8s.io/v1", "IPAddress");

const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn ingress() -> Value {
    json!({
        "metadata": {"name": "a", "annotations": {}},
        "spec": {
            "rules": [{"host": "a.io", "http": {"paths": [{
                "path": "/", "pathType": "Prefix",
                "backend": {"service": {"name": "s", "port": {"number": 80}}},
            }]}}],
            "tls": [{"hosts": ["a.io"], "secretName": "t"}],
        },
    })
}

fn ingress_class() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "controller": "example.com/c",
        "parameters": {"apiGroup": "k8s.example.com", "kind": "P", "name": "p", "scope": "Namespace", "namespace": "n"},
    }})
}

fn policy() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "podSelector": {"matchLabels": {"a": "b"}},
        "ingress": [{
            "ports": [{"port": 80, "endPort": 90}, {"port": "http"}, {}],
            "from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}, {"podSelector": {}, "namespaceSelector": {}}],
        }],
        "egress": [{"to": [{"podSelector": {}}]}],
        "policyTypes": ["Ingress", "Egress"],
    }})
}

fn address() -> Value {
    json!({"metadata": {"name": "10.0.0.1"}, "spec": {
        "parentRef": {"resource": "services", "namespace": "default", "name": "a"},
    }})
}

#[test]
fn names() {
    known_as(INGRESS, true, &["ing"], &["status"]);
    known_as(INGRESS_CLASS, false, &[], &[]);
    known_as(POLICY, true, &["netpol"], &[]);
    known_as(CIDR, false, &[], &["status"]);
    known_as(ADDRESS, false, &["ip"], &[]);
}

#[test]
fn defaults() {
    golden(
        INGRESS,
        json!({
            "metadata": {"name": "a"},
            "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}},
            "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
        }),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}},
            "status": {"loadBalancer": {}},
        }),
    );
    golden(
        INGRESS_CLASS,
        json!({"metadata": {"name": "a"}, "spec": {"controller": "a.io/c", "parameters": {"kind": "K", "name": "n"}}}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {"controller": "a.io/c", "parameters": {"kind": "K", "name": "n", "scope": "Cluster"}},
        }),
    );
    golden(
        POLICY,
        json!({"metadata": {"name": "a"}, "spec": {"ingress": [{"ports": [{"port": 80}]}]}}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {
                "ingress": [{"ports": [{"port": 80, "protocol": "TCP"}]}],
                "podSelector": {},
                "policyTypes": ["Ingress"],
            },
        }),
    );
    golden(
        POLICY,
        json!({"metadata": {"name": "a"}, "spec": {"egress": [{}]}}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "spec": {"egress": [{}], "podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        }),
    );
    golden(
        CIDR,
        json!({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.0.0.0/24", "2001:db8::/64"]}}),
        json!({
            "metadata": {"name": "a"},
            "spec": {"cidrs": ["10.0.0.0/24", "2001:db8::/64"]},
            "status": {},
        }),
    );
    golden(
        ADDRESS,
        json!({"metadata": {"name": "2001:db8::1"}, "spec": {"parentRef": {"resource": "services", "name": "a"}}}),
        json!({"metadata": {"name": "2001:db8::1"}, "spec": {"parentRef": {"resource": "services", "name": "a"}}}),
    );
}

#[test]
fn shown() {
    let mut object = ingress();
    object["metadata"] = aged("a");
    object["spec"]["ingressClassName"] = json!("nginx");
    object["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "lb"}, {"ip": "1.1.1.1"}]}});
    columns(
        INGRESS,
        object.clone(),
        &[
            "Name=a",
            "Class=nginx",
            "Hosts=a.io",
            "Address=1.1.1.1,2.2.2.2,lb",
            "Ports=80, 443",
            "Age=5m",
        ],
    );
    let host = |name: &str| json!({"host": name});
    object["spec"] = json!({"rules": [host("a"), host("b"), host("c"), host("d"), host("e")]});
    object["status"] = json!({});
    columns(
        INGRESS,
        object.clone(),
        &[
            "Name=a",
            "Class=<none>",
            "Hosts=a,b,c + 2 more...",
            "Address=",
            "Ports=80",
            "Age=5m",
        ],
    );
    object["spec"] = json!({"rules": [{}]});
    columns(
        INGRESS,
        object,
        &[
            "Name=a",
            "Class=<none>",
            "Hosts=*",
            "Address=",
            "Ports=80",
            "Age=5m",
        ],
    );
    let mut object = ingress_class();
    object["metadata"] = aged("a");
    columns(
        INGRESS_CLASS,
        object,
        &[
            "Name=a",
            "Controller=example.com/c",
            "Parameters=P.k8s.example.com/p",
            "Age=5m",
        ],
    );
    columns(
        INGRESS_CLASS,
        json!({"metadata": aged("a"), "spec": {"controller": "a.io/c"}}),
        &["Name=a", "Controller=a.io/c", "Parameters=<none>", "Age=5m"],
    );
    columns(
        POLICY,
        json!({"metadata": aged("a"), "spec": {"podSelector": {"matchLabels": {"b": "c", "a": "b"}}}}),
        &["Name=a", "Pod-Selector=a=b,b=c", "Age=5m"],
    );
    columns(
        POLICY,
        json!({"metadata": aged("a"), "spec": {}}),
        &["Name=a", "Pod-Selector=<none>", "Age=5m"],
    );
    columns(
        CIDR,
        json!({"metadata": aged("a"), "spec": {"cidrs": ["10.0.0.0/8", "fd00::/64"]}}),
        &["Name=a", "CIDRs=10.0.0.0/8,fd00::/64", "Age=5m"],
    );
    columns(
        ADDRESS,
        json!({"metadata": aged("10.0.0.1"), "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "a"}}}),
        &["Name=10.0.0.1", "ParentRef=services/n/a"],
    );
    columns(
        ADDRESS,
        json!({"metadata": aged("10.0.0.1"), "spec": {"parentRef": {"group": "G.io", "resource": "things", "name": "a"}}}),
        &["Name=10.0.0.1", "ParentRef=things.g.io/a"],
    );
}
