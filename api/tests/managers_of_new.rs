//! The managers of new objects: the text made in one walk is the one that sets make, for any object of any kind.

use corten_api::resource::{By, Subresource};
use corten_api::schema::{Kind, Type, schema};
use corten_api::{ResourceType, custom, registry};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const MAX_DEPTH: usize = 8;

/// Numbers to choose by, the same for the same seed (xorshift).
struct Choices(u64);

impl Choices {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn text(&mut self) -> String {
        let texts = ["", "a", "b", "x/y", "a\"b\\\n", "ü", "10", "9"];
        texts[self.below(texts.len() as u64) as usize].into()
    }

    fn scalar(&mut self) -> Value {
        match self.below(6) {
            0 => self.text().into(),
            1 => json!(10),
            2 => json!(1.0),
            3 => json!(u64::MAX),
            4 => true.into(),
            _ => Value::Null,
        }
    }

    fn any(&mut self, depth: usize) -> Value {
        match self.below(4) {
            0 if depth < MAX_DEPTH => (0..self.below(3)).map(|_| self.any(depth + 1)).collect(),
            1 if depth < MAX_DEPTH => (0..self.below(3))
                .map(|_| (self.text(), self.any(depth + 1)))
                .collect::<Map<_, _>>()
                .into(),
            _ => self.scalar(),
        }
    }

    fn value(&mut self, kind: Kind, depth: usize) -> Value {
        if self.below(24) == 0 {
            return self.any(depth);
        }
        match kind {
            Kind::Boolean => (self.below(2) == 0).into(),
            Kind::Int32 | Kind::Int64 => self.below(12).into(),
            Kind::Double => json!(1.5),
            Kind::IntOrString | Kind::Any => self.any(depth),
            Kind::String | Kind::Bytes | Kind::Time | Kind::MicroTime | Kind::Quantity => self.text().into(),
            Kind::Struct(idx) => self.object(schema().get(idx), depth),
            Kind::List(inner) => (0..self.below(4))
                .map(|_| self.value(*inner, depth + 1))
                .collect(),
            Kind::Map(inner) => (0..self.below(3))
                .map(|_| (self.text(), self.value(*inner, depth + 1)))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    /// Some of the fields, fewer the deeper.
    fn object(&mut self, entry: &Type, depth: usize) -> Value {
        let mut map = Map::new();
        for field in &entry.fields {
            if depth < MAX_DEPTH && self.below(1 + depth as u64) == 0 && field.name != "managedFields" {
                map.insert(field.name.into(), self.value(field.kind, depth + 1));
            }
        }
        if self.below(20) == 0 {
            map.insert("noSuchField".into(), self.any(depth));
        }
        Value::Object(map)
    }
}

fn by(manager: &str) -> By<'_> {
    By {
        manager,
        subresource: None,
        now: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// Whether the short way could tell. What it tells is what the long way makes.
#[track_caller]
fn check(ty: &ResourceType, object: &Value, manager: &str) -> bool {
    let mut long = object.clone();
    ty.track(None, &mut long, by(manager), Subresource::Main);
    let mut short = object.clone();
    let told = ty.managers_of_new(&mut short, by(manager));
    if let Some(text) = &told {
        assert_eq!(*text, long["metadata"]["managedFields"].to_string(), "{object}");
        long["metadata"]
            .as_object_mut()
            .expect("metadata")
            .remove("managedFields");
    } else {
        ty.track(None, &mut short, by(manager), Subresource::Main);
    }
    assert_eq!(short, long);
    told.is_some()
}

#[test]
fn any_object_of_every_kind() {
    let (mut told, mut all) = (0, 0);
    for ty in registry().all() {
        let Some(entry) = ty.type_facts() else { continue };
        for seed in 1..=12u64 {
            let mut choices = Choices(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut object = choices.object(entry, 0);
            object["apiVersion"] = ty.api_version().into();
            object["kind"] = (&*ty.kind).into();
            told += usize::from(check(ty, &object, ["", "kubectl"][seed as usize % 2]));
            all += 1;
        }
    }
    assert!(told * 3 > all, "{told} of {all}");
}

#[test]
fn what_a_client_sends_is_told_at_once() {
    let pods = registry().lookup("", "v1", "pods").expect("Pods are built in");
    let port = |port: i32| json!({"containerPort": port, "protocol": "TCP"});
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "creationTimestamp": null, "labels": {"b": "1", "a": "2"}, "finalizers": ["x/b", "x/a"]},
        "spec": {"containers": [{"name": "z", "ports": [port(80), port(443), port(8080)]}, {"name": "a"}], "nodeSelector": {"a": "b"}},
        "status": {"phase": "Running"},
    });
    assert!(check(pods, &pod, "kubectl"));
    let given = json!([{"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {}}}]);
    for given in [json!([]), given] {
        pod["metadata"]["managedFields"] = given;
        assert_eq!(pods.managers_of_new(&mut pod.clone(), by("kubectl")), None);
    }
    pod["metadata"]["managedFields"] = Value::Null;
    assert!(check(pods, &pod, "kubectl"));
    // Elements that occur twice are one value.
    pod["spec"]["containers"][1]["name"] = "z".into();
    assert!(!check(pods, &pod, "kubectl"));
    assert!(!check(
        pods,
        &json!({"apiVersion": "v1", "kind": "Pod"}),
        "kubectl"
    ));
    assert!(!check(pods, &Value::Null, "kubectl"));
}

fn widgets() -> ResourceType {
    let properties = json!({
        "spec": {"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["b", "a"], "items":
                {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}, "b": {"type": "string", "default": "d"}}}},
            "atomic": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
            "open": {"x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.x.io"},
        "spec": {"group": "x.io", "scope": "Namespaced", "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}}]},
    });
    custom::types(&definition).expect("a good definition").remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn custom_resources(
        set in prop::collection::vec("[a-d]", 0..4),
        map in prop::collection::vec((0..12i64, prop::option::of("[a-c]")), 0..4),
        seed in 1..u64::MAX,
    ) {
        let widgets = widgets();
        let mut choices = Choices(seed);
        let map: Vec<Value> = map.into_iter().map(|(a, b)| match b {
            Some(b) => json!({"a": a, "b": b}),
            None => json!({"a": a}),
        }).collect();
        let object = json!({
            "apiVersion": "x.io/v1", "kind": "Widget", "metadata": {"name": "w", "annotations": {"a": "b"}},
            "spec": {"set": set, "map": map, "atomic": {"a": "b"}, "open": choices.any(0), "unknown": choices.any(0)},
            "status": choices.any(0),
        });
        check(&widgets, &object, "m");
    }
}
