//! CertificateSigningRequest: who asked, what is valid, and who may change what.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::*;
use corten_api::kinds::certificates::request;
use corten_api::resource::{Requester, Subresource};
use serde_json::{Value, json};

const CSR: Name = ("certificates.k8s.io/v1", "CertificateSigningRequest");
/// A P-256 request for `O=system:nodes, CN=system:node:a`.
const REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIHrMIGRAgEAMC8xFTATBgNVBAoMDHN5c3RlbTpub2RlczEWMBQGA1UEAwwNc3lz
dGVtOm5vZGU6YTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABF4vcNuPTMxkKZdb
GVBQSVY6v3dUpM4CG/u4C3cMhGHkfo6zJ14HZ1vx49ZsQjOl47bB+4bpyySF+qzz
PQhYoFugADAKBggqhkjOPQQDAgNJADBGAiEAz+hQtT1B4bMrZc6rAr5hYxXgoQ8g
LAbTaxI0aMlX/aACIQDK7a2QdIaqQzVcLVHNzffjaSH8yBG0Em+zEKsep2x3ng==
-----END CERTIFICATE REQUEST-----
";

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

fn csr() -> Value {
    json!({"metadata": {"name": "A:b"}, "spec": {
        "request": base64(REQUEST), "signerName": "example.com/signer", "usages": ["client auth"],
    }})
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status})
}

fn conditions(list: &[Value]) -> Value {
    json!({"status": {"conditions": list}})
}

#[test]
fn names() {
    known_as(CSR, false, &["csr"], &["approval", "status"]);
}

#[test]
fn defaults() {
    let mut body = csr();
    body["spec"]["username"] = json!("someone else");
    body["spec"]["groups"] = json!(["system:masters"]);
    body["spec"]["extra"] = json!({"a": ["b"]});
    body["spec"]["uid"] = json!("1");
    body["status"] = json!({"certificate": base64("x"), "conditions": [condition("Approved", "True")]});
    golden(
        CSR,
        body,
        json!({
            "metadata": {"name": "A:b"},
            "spec": {"request": base64(REQUEST), "signerName": "example.com/signer", "usages": ["client auth"]},
            "status": {},
        }),
    );
}

#[test]
fn the_requester_is_written_down() {
    let mut object = stored(CSR, &csr());
    resource(CSR).stamp_create(
        &mut object,
        &Requester {
            name: "u".into(),
            uid: "1".into(),
            groups: vec!["g".into()],
            extra: [("k".to_string(), vec!["v".to_string()])].into(),
        },
    );
    let spec = &object["spec"];
    assert_eq!(
        (&spec["username"], &spec["uid"], &spec["groups"], &spec["extra"]),
        (&json!("u"), &json!("1"), &json!(["g"]), &json!({"k": ["v"]}))
    );
    assert_eq!(request::organizations(&base64(REQUEST)), ["system:nodes"]);
    assert!(request::organizations("x").is_empty());
}

#[test]
fn invalid_requests() {
    let base = csr();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(CSR, base, pointer, value, want);
    }
    #[track_caller]
    fn check_request(text: &str, why: &str) {
        let text = base64(text);
        let want = format!("spec.request|Invalid|Invalid value: \"{text}\": {why}");
        invalid(CSR, &csr(), "/spec/request", json!(text), &[&want]);
    }
    check(&base, "/metadata/name", json!("x y"), &[]);
    check_request("x", "PEM block type must be CERTIFICATE REQUEST");
    check_request(
        &REQUEST.replace(" REQUEST", ""),
        "PEM block type must be CERTIFICATE REQUEST",
    );
    check_request(
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "asn1: structure error: malformed certificate request",
    );
    check_request(
        &REQUEST.replace("p2x3ng==", "p2x3nw=="),
        "x509: ECDSA verification failure",
    );
    check(
        &base,
        "/spec/usages",
        json!([]),
        &["spec.usages|Required|Required value"],
    );
    check(
        &base,
        "/spec/usages",
        json!(["x", "any", "any"]),
        &[
            "spec.usages[0]|NotSupported|Unsupported value: \"x\": supported values: \"any\", \"cert sign\", \"client auth\", \"code signing\", \"content commitment\", \"crl sign\", \"data encipherment\", \"decipher only\", \"digital signature\", \"email protection\", \"encipher only\", \"ipsec end system\", \"ipsec tunnel\", \"ipsec user\", \"key agreement\", \"key encipherment\", \"microsoft sgc\", \"netscape sgc\", \"ocsp signing\", \"s/mime\", \"server auth\", \"signing\", \"timestamping\"",
            "spec.usages[2]|Duplicate|Duplicate value: \"any\"",
        ],
    );
    check(
        &base,
        "/spec/expirationSeconds",
        json!(599),
        &[
            "spec.expirationSeconds|Invalid|Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
        ],
    );
    let signer = "/spec/signerName";
    check(
        &base,
        signer,
        json!(""),
        &["spec.signerName|Required|Required value"],
    );
    check(
        &base,
        signer,
        json!("kubernetes.io/legacy-unknown"),
        &[
            "spec.signerName|Invalid|Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version",
        ],
    );
    for bad in ["a", "a.io/b/c"] {
        check(
            &base,
            signer,
            json!(bad),
            &[&format!(
                "spec.signerName|Invalid|Invalid value: \"{bad}\": must be a fully qualified domain and path of the form 'example.com/signer-name'"
            )],
        );
    }
    check(
        &base,
        signer,
        json!("A/B"),
        &[
            &format!("spec.signerName|Invalid|Invalid value: \"A\": validating label \"A\": {DNS_LABEL}"),
            "spec.signerName|Invalid|Invalid value: \"A\": should be a domain with at least two segments separated by dots",
            &format!("spec.signerName|Invalid|Invalid value: \"B\": validating label \"B\": {DNS_SUBDOMAIN}"),
        ],
    );
    let label = "a".repeat(60);
    let long = format!("{label}.{label}.{label}.{label}.{label}/x");
    check(
        &base,
        signer,
        json!(long),
        &["spec.signerName|TooLong|Too long: may not be more than 253 bytes"],
    );
}

#[test]
fn only_the_approval_approves() {
    let old = stored(CSR, &csr());
    let approved = conditions(&[condition("Approved", "True")]);
    let new = update(CSR, &old, approved.clone(), Subresource::Main).unwrap();
    assert_eq!(new["status"], json!({}));
    refused_part(
        CSR,
        &old,
        approved.clone(),
        Subresource::Status,
        &["status.conditions|Forbidden|Forbidden: updates may not add a condition of type \"Approved\""],
    );
    let mut change = approved;
    change["spec"] = json!({"usages": ["any"]});
    change["status"]["certificate"] = json!(base64("x"));
    let new = update(CSR, &old, change, Subresource::Approval).unwrap();
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(
        new["status"],
        json!({"conditions": [{
            "type": "Approved", "status": "True",
            "lastUpdateTime": "2026-01-01T01:00:00Z", "lastTransitionTime": "2026-01-01T01:00:00Z",
        }]})
    );
}

#[test]
fn conditions_have_rules() {
    let old = stored(CSR, &csr());
    #[track_caller]
    fn check(old: &Value, list: &[Value], want: &[&str]) {
        refused_part(CSR, old, conditions(list), Subresource::Approval, want);
    }
    check(
        &old,
        &[condition("Approved", "False")],
        &[
            "status.conditions[0].status|NotSupported|Unsupported value: \"False\": supported values: \"True\"",
        ],
    );
    check(
        &old,
        &[condition("", "x"), condition("Other", "")],
        &[
            "status.conditions[0].type|Required|Required value",
            "status.conditions[0].status|NotSupported|Unsupported value: \"x\": supported values: \"False\", \"True\", \"Unknown\"",
            "status.conditions[1].status|Required|Required value",
        ],
    );
    check(
        &old,
        &[condition("Approved", "True"), condition("Denied", "True")],
        &[
            "status.conditions|Invalid|Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
        ],
    );
    check(
        &old,
        &[condition("Other", "True"), condition("Other", "False")],
        &["status.conditions[1].type|Duplicate|Duplicate value: \"Other\""],
    );
    let list = conditions(&[condition("Approved", "True"), condition("Failed", "True")]);
    let old = update(CSR, &old, list, Subresource::Approval).unwrap();
    check(
        &old,
        &[],
        &[
            "status.conditions|Forbidden|Forbidden: updates may not remove a condition of type \"Approved\"",
            "status.conditions|Forbidden|Forbidden: updates may not remove a condition of type \"Failed\"",
        ],
    );
    // The status path brings its own conditions; the approvals stay as they are.
    let mut approved = condition("Approved", "True");
    approved["message"] = json!("changed");
    let list = conditions(&[
        approved,
        condition("Failed", "True"),
        condition("Other", "Unknown"),
    ]);
    let new = update(CSR, &old, list, Subresource::Status).unwrap();
    assert_eq!(new["status"]["conditions"][0], old["status"]["conditions"][0]);
    assert_eq!(
        new["status"]["conditions"][2]["lastUpdateTime"],
        "2026-01-01T01:00:00Z"
    );
}

#[test]
fn certificates_are_set_once() {
    let old = stored(CSR, &csr());
    #[track_caller]
    fn check(old: &Value, certificate: &str, why: &str) {
        refused_part(
            CSR,
            old,
            json!({"status": {"certificate": base64(certificate)}}),
            Subresource::Status,
            &[&format!(
                "status.certificate|Invalid|Invalid value: \"<certificate data>\": {why}"
            )],
        );
    }
    check(&old, "x", "must contain at least one CERTIFICATE PEM block");
    check(
        &old,
        REQUEST,
        "only CERTIFICATE PEM blocks are allowed, found \"CERTIFICATE REQUEST\"",
    );
    check(
        &old,
        "-----BEGIN CERTIFICATE-----\nA: b\n\nAAAA\n-----END CERTIFICATE-----\n",
        "no PEM block headers are permitted",
    );
    check(
        &old,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "x509: malformed certificate",
    );
    check(
        &old,
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "found CERTIFICATE PEM block containing 0 certificates",
    );
    let mut issued = old.clone();
    issued["status"]["certificate"] = json!(base64("old"));
    refused_part(
        CSR,
        &issued,
        json!({"status": {"certificate": base64("new")}}),
        Subresource::Status,
        &["status.certificate|Forbidden|Forbidden: updates may not modify existing certificate content"],
    );
    let new = update(
        CSR,
        &issued,
        conditions(&[condition("Approved", "True")]),
        Subresource::Approval,
    )
    .unwrap();
    assert_eq!(new["status"]["certificate"], issued["status"]["certificate"]);
}

#[test]
fn shown() {
    let row = |requested: &str, status: &str| {
        vec![
            "Name=a".to_string(),
            "Age=5m".into(),
            "SignerName=example.com/signer".into(),
            "Requestor=u".into(),
            format!("RequestedDuration={requested}"),
            format!("Condition={status}"),
        ]
    };
    let check = |change: Value, want: Vec<String>| {
        let mut object = csr();
        object["metadata"] = aged("a");
        object["spec"]["username"] = json!("u");
        corten_api::patch::merge_patch(&mut object, &change);
        columns(CSR, object, &want.iter().map(String::as_str).collect::<Vec<_>>());
    };
    check(json!({}), row("<none>", "Pending"));
    check(
        json!({"spec": {"expirationSeconds": 86400}}),
        row("24h", "Pending"),
    );
    let both = [condition("Approved", "True"), condition("Failed", "True")];
    check(conditions(&both), row("<none>", "Approved,Failed"));
    check(
        conditions(&[condition("Denied", "True")]),
        row("<none>", "Denied"),
    );
    let mut issued = conditions(&[condition("Approved", "True")]);
    issued["status"]["certificate"] = json!(base64("x"));
    check(issued, row("<none>", "Approved,Issued"));
    let fields = resource(CSR).selectable_fields(&stored(CSR, &csr()));
    assert!(
        fields
            .iter()
            .any(|(f, v)| *f == "spec.signerName" && v == "example.com/signer")
    );
}
