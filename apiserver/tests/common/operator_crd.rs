//! Definitions as a real operator has them: the fields, types, enumerations and columns of cert-manager's Certificate, with
//! descriptions of the same length in words of our own.

use serde_json::{Map, Value, json};

const OUTLINE: &str = include_str!("certificate.txt");

/// The `number`th of many alike; twenty groups share them.
pub fn definition(number: usize) -> Value {
    let (group, plural) = (group(number), format!("certificates{number}"));
    let column = |name: &str, kind: &str, path: &str, priority: u64| json!({ "name": name, "type": kind, "jsonPath": path, "priority": priority });
    let ready = |field: &str| format!(".status.conditions[?(@.type == \"Ready\")].{field}");
    let mut age = column("Age", "date", ".metadata.creationTimestamp", 0);
    age["description"] = words(number, 270).into();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            "annotations": { "controller-gen.kubebuilder.io/version": "v0.19.0" },
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": { "plural": plural, "singular": format!("certificate{number}"), "kind": kind(number),
                "listKind": format!("{}List", kind(number)), "shortNames": [format!("cert{number}")],
                "categories": ["cert-manager"] },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "additionalPrinterColumns": [
                    column("Ready", "string", &ready("status"), 0),
                    column("Secret", "string", ".spec.secretName", 0),
                    column("Issuer", "string", ".spec.issuerRef.name", 1),
                    column("Status", "string", &ready("message"), 1),
                    age,
                ],
                "schema": { "openAPIV3Schema": schema(number) },
            }],
        },
    })
}

pub fn group(number: usize) -> String {
    format!("group{}.cert-manager.io", number % 20)
}

pub fn kind(number: usize) -> String {
    format!("Certificate{number}")
}

/// Where its objects in `default` are.
pub fn path(number: usize) -> String {
    format!(
        "/apis/{}/v1/namespaces/default/certificates{number}",
        group(number)
    )
}

/// One object of it, as users write it.
pub fn object(number: usize, name: &str) -> Value {
    json!({
        "apiVersion": format!("{}/v1", group(number)),
        "kind": kind(number),
        "metadata": { "name": name },
        "spec": { "secretName": "web-tls", "dnsNames": ["web.example.org", "www.example.org"],
            "issuerRef": { "name": "letsencrypt", "kind": "ClusterIssuer" },
            "privateKey": { "algorithm": "ECDSA", "rotationPolicy": "Always" } },
    })
}

fn schema(number: usize) -> Value {
    let mut lines = OUTLINE.lines().filter(|line| !line.starts_with('#')).peekable();
    let mut properties = fields(&mut lines, 0, number);
    for (name, length) in [("apiVersion", 278), ("kind", 318)] {
        properties.insert(
            name.into(),
            json!({ "type": "string", "description": words(number, length) }),
        );
    }
    properties.insert("metadata".into(), json!({ "type": "object" }));
    json!({ "type": "object", "description": words(number, 265), "properties": properties })
}

fn depth(line: &str) -> usize {
    (line.len() - line.trim_start().len()) / 2
}

/// The lines of one depth and what is below them.
fn fields<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    at: usize,
    number: usize,
) -> Map<String, Value> {
    let mut out = Map::new();
    while let Some(line) = lines.next_if(|line| depth(line) == at) {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let said = |key: &str| {
            parts[3..]
                .iter()
                .find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
        };
        let list_of = |key: &str| said(key).map(|all| all.split(',').collect::<Vec<_>>());
        let seed = number + out.len() * 7 + at * 31;
        let text = |length: &str| words(seed, length.parse().expect("a length"));
        let below = fields(lines, at + 1, number);
        let mut inner = json!({});
        if let Some(words) = list_of("enum") {
            inner["enum"] = json!(words);
        }
        if let Some(format) = said("format") {
            inner["format"] = format.into();
        }
        if let Some(required) = list_of("required") {
            inner["required"] = json!(required);
        }
        if !below.is_empty() {
            inner["properties"] = Value::Object(below);
        }
        let own = match parts[1] {
            "list" => {
                inner["type"] = said("of").unwrap_or("object").into();
                if let Some(length) = said("about") {
                    inner["description"] = text(length).into();
                }
                let mut list = json!({ "type": "array", "items": inner, "description": text(parts[2]) });
                list["x-kubernetes-list-type"] = match said("key") {
                    Some(key) => {
                        list["x-kubernetes-list-map-keys"] = json!([key]);
                        "map".into()
                    }
                    None => "atomic".into(),
                };
                list
            }
            "map" => {
                json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": text(parts[2]) })
            }
            kind => {
                inner["type"] = kind.into();
                inner["description"] = text(parts[2]).into();
                inner
            }
        };
        out.insert(parts[0].to_owned(), own);
    }
    out
}

/// Text of so many characters, compressible as prose is.
fn words(seed: usize, length: usize) -> String {
    const WORDS: [&str; 48] = [
        "the",
        "of",
        "a",
        "is",
        "to",
        "be",
        "and",
        "if",
        "in",
        "for",
        "name",
        "value",
        "field",
        "set",
        "used",
        "when",
        "must",
        "may",
        "not",
        "resource",
        "list",
        "key",
        "secret",
        "reference",
        "certificate",
        "request",
        "default",
        "allowed",
        "values",
        "issuer",
        "this",
        "that",
        "will",
        "by",
        "with",
        "specified",
        "true",
        "private",
        "renewed",
        "time",
        "stored",
        "object",
        "which",
        "format",
        "controller",
        "namespace",
        "optional",
        "before",
    ];
    let mut state = seed as u64 ^ 0x9e37_79b9;
    let mut out = String::with_capacity(length + 16);
    while out.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        out.push_str(WORDS[(state >> 33) as usize % WORDS.len()]);
        out.push(' ');
    }
    out.truncate(length);
    out
}
