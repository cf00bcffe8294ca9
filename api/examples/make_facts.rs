//! Makes `src/schema/facts.txt` from the JSON table of Kubernetes API facts.
//!
//! `cargo run -p corten-api --example make_facts -- FACTS.json [--all | ROOT...] > api/src/schema/facts.txt`
//!
//! Without roots it keeps the types that the registry's resources and the meta types reach; `--all` keeps
//! every type. The format is described in `src/schema.rs`.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map, Value};

/// Types that travel beside the resources themselves.
const META_ROOTS: [&str; 6] = [
    "meta.v1.DeleteOptions",
    "meta.v1.LabelSelector",
    "meta.v1.ListMeta",
    "meta.v1.Status",
    "autoscaling.v1.Scale",
    "policy.v1.Eviction",
];

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args
        .next()
        .expect("usage: make_facts FACTS.json [--all | ROOT...]");
    let roots: Vec<String> = args.collect();
    let text = std::fs::read_to_string(&path).expect("the facts file is readable");
    let facts: Value = serde_json::from_str(&text).expect("the facts file is JSON");
    let types = facts["types"].as_object().expect("types by definition name");
    let keep = if roots.iter().any(|r| r == "--all") {
        types.keys().cloned().collect()
    } else {
        reachable(types, &roots)
    };
    print!(
        "{}",
        render(types, &keep, facts["kubernetes"].as_str().unwrap_or("1.36"))
    );
}

/// `io.k8s.api.core.v1.Pod` to `core.v1.Pod`.
fn short(definition: &str) -> String {
    for (long, short) in [
        ("io.k8s.apimachinery.pkg.apis.meta.", "meta."),
        ("io.k8s.apimachinery.pkg.api.", ""),
        ("io.k8s.apimachinery.pkg.util.", ""),
        ("io.k8s.apimachinery.pkg.", ""),
        ("io.k8s.apiextensions-apiserver.pkg.apis.", ""),
        ("io.k8s.kube-aggregator.pkg.apis.", ""),
        ("io.k8s.api.", ""),
    ] {
        if let Some(rest) = definition.strip_prefix(long) {
            return format!("{short}{rest}");
        }
    }
    definition.to_string()
}

fn reachable(types: &Map<String, Value>, roots: &[String]) -> BTreeSet<String> {
    let mut wanted: BTreeSet<String> = roots.iter().cloned().collect();
    if roots.is_empty() {
        wanted.extend(META_ROOTS.map(String::from));
        wanted.extend(corten_api::registry().all().iter().map(|r| r.schema.to_string()));
    }
    let mut keep = BTreeSet::new();
    let mut queue: Vec<String> = types
        .keys()
        .filter(|k| wanted.contains(&short(k)))
        .cloned()
        .collect();
    while let Some(name) = queue.pop() {
        if !keep.insert(name.clone()) {
            continue;
        }
        for field in types[&name]["fields"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, f)| f)
        {
            let mut kind = &field["type"];
            while let Some(inner) = kind.get("list").or(kind.get("map")) {
                kind = inner;
            }
            if let Some(next) = kind.as_str().filter(|t| types.contains_key(*t)) {
                queue.push(next.to_string());
            }
        }
    }
    keep
}

fn render(types: &Map<String, Value>, keep: &BTreeSet<String>, version: &str) -> String {
    let mut out = format!(
        "# Facts of the Kubernetes {version} API, made by examples/make_facts.rs. Format: src/schema.rs.\n"
    );
    for name in keep {
        let entry = &types[name];
        let _ = write!(out, "{}", short(name));
        if let Some(kind) = entry["type"].as_str() {
            let _ = write!(out, " scalar={kind}");
        }
        if let Some(map_type) = entry["map-type"].as_str() {
            let _ = write!(out, " mt={map_type}");
        }
        for gvk in entry["gvk"].as_array().into_iter().flatten() {
            let part = |idx: usize| gvk[idx].as_str().unwrap_or_default();
            let _ = write!(out, " gvk={}/{}/{}", part(0), part(1), part(2));
        }
        for inlined in entry["inlined"].as_array().into_iter().flatten() {
            let proto = inlined["pbname"].as_str().unwrap_or_default();
            let kind = inlined["type"].as_str().unwrap_or_default();
            let _ = write!(out, " in={}:{kind}:{proto}", inlined["number"]);
        }
        out.push('\n');
        for (field, facts) in entry["fields"].as_object().into_iter().flatten() {
            let _ = write!(
                out,
                " {field} {} {}",
                kind_text(&facts["type"]),
                facts["number"].as_i64().unwrap_or(0)
            );
            let flag = |key: &str| facts[key].as_bool().unwrap_or_default();
            let omit_zero = name.ends_with(".ObjectMeta") && field == "creationTimestamp";
            for (set, letter) in [
                (flag("required"), "r"),
                (!flag("omitempty"), "e"),
                (flag("pointer"), "p"),
                (omit_zero, "z"),
            ] {
                if set {
                    let _ = write!(out, " {letter}");
                }
            }
            for (key, text) in [
                ("patch-strategy", "ps"),
                ("patch-merge-key", "pk"),
                ("list-type", "lt"),
                ("map-type", "mt"),
                ("proto-name", "pb"),
            ] {
                if let Some(value) = facts[key].as_str() {
                    let _ = write!(out, " {text}={value}");
                }
            }
            if let Some(keys) = facts["list-map-keys"].as_array() {
                let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
                let _ = write!(out, " lk={}", keys.join(","));
            }
            out.push('\n');
        }
    }
    out
}

fn kind_text(kind: &Value) -> String {
    if let Some(inner) = kind.get("list") {
        return format!("[{}", kind_text(inner));
    }
    if let Some(inner) = kind.get("map") {
        return format!("{{{}", kind_text(inner));
    }
    match kind.as_str().expect("a type is a name, a list or a map") {
        name @ ("string" | "boolean") => name.to_string(),
        "integer:int32" => "int32".into(),
        "integer:int64" => "int64".into(),
        "number:double" => "double".into(),
        "string:byte" => "bytes".into(),
        definition => short(definition),
    }
}
