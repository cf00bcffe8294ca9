//! What holds for any configurations that managers may apply.

use corten_api::apply::extract::fields_of;
use corten_api::apply::managers;
use corten_api::registry;
use corten_api::resource::{By, Subresource};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn apply(live: Option<&Value>, manager: &str, config: &Value, force: bool, second: i64) -> Option<Value> {
    let pods = registry().lookup("", "v1", "pods").expect("Pods are built in");
    let by = By {
        manager,
        subresource: None,
        now: jiff::Timestamp::from_second(second).expect("a time"),
    };
    pods.server_side_apply(live, config, by, Subresource::Main, force)
        .ok()
}

/// A Pod of labels, finalizers, containers with images, arguments, variables and ports, and an atomic map.
fn configuration(prefix: &'static str) -> impl Strategy<Value = Value> {
    let name = move |n: u8| format!("{prefix}{n}");
    let labels = prop::collection::btree_map(0..4u8, "[a-c]", 0..4);
    let finalizers = prop::collection::btree_set(0..4u8, 0..4);
    let container = (
        prop::option::of("[x-z]"),
        prop::option::of(prop::collection::vec("[1-3]", 1..3)),
        prop::collection::btree_map(0..3u8, "[p-r]", 0..3),
        prop::collection::btree_map((0..2u8, any::<bool>()), 0..4usize, 0..3),
    );
    let containers = prop::collection::btree_map(0..4u8, container, 0..4);
    (labels, finalizers, containers).prop_map(move |(labels, finalizers, containers)| {
        let labels: Map<String, Value> = labels.into_iter().map(|(k, v)| (name(k), v.into())).collect();
        let finalizers: Vec<String> = finalizers.into_iter().map(|f| format!("x/{}", name(f))).collect();
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(n, (image, args, env, ports))| {
                let mut one = json!({"name": name(n)});
                if let Some(image) = image {
                    one["image"] = image.into();
                }
                if let Some(args) = args {
                    one["args"] = args.into();
                }
                if !env.is_empty() {
                    one["env"] = env
                        .into_iter()
                        .map(|(k, v)| json!({"name": name(k), "value": v}))
                        .collect();
                }
                if !ports.is_empty() {
                    one["ports"] = ports.into_iter().map(port).collect();
                }
                one
            })
            .collect();
        // An empty list or map would be owned by whoever gives it, so it is left out.
        let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        if !labels.is_empty() {
            object["metadata"]["labels"] = labels.into();
        }
        if !finalizers.is_empty() {
            object["metadata"]["finalizers"] = finalizers.into();
        }
        if !containers.is_empty() {
            object["spec"] = json!({ "containers": containers });
        }
        object
    })
}

/// A port of UDP, or of TCP in one of the forms in which it can be said.
fn port(((number, udp), form): ((u8, bool), usize)) -> Value {
    let mut port = json!({"containerPort": 80 + number});
    let tcp = [Value::Null, "".into(), "TCP".into()];
    if udp {
        port["protocol"] = "UDP".into();
    } else if let Some(form) = tcp.get(form) {
        port["protocol"] = form.clone();
    }
    port
}

fn without_times(object: &Value) -> Value {
    let mut object = object.clone();
    for entry in object["metadata"]["managedFields"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        entry.as_object_mut().expect("an entry").remove("time");
    }
    object
}

/// Lists in an order of their own, for objects that came to be by another order of writes.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(sorted).collect();
            list.sort_by_key(ToString::to_string);
            Value::Array(list)
        }
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect()),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn applying_twice_changes_nothing(first in configuration("a"), second in configuration("a"), third in configuration("a")) {
        let mut live = apply(None, "a", &first, false, 1);
        live = apply(live.as_ref(), "b", &second, true, 2);
        let once = apply(live.as_ref(), "a", &third, true, 3).expect("force");
        let twice = apply(Some(&once), "a", &third, false, 4).expect("no conflict with what was just applied");
        prop_assert_eq!(without_times(&once), without_times(&twice));
    }

    #[test]
    fn managers_of_disjoint_fields_commute(a1 in configuration("a"), a2 in configuration("a"), b1 in configuration("b"), b2 in configuration("b")) {
        let run = |order: &[(&str, &Value)]| {
            let mut live = None;
            for (manager, config) in order {
                live = Some(apply(live.as_ref(), manager, config, false, 1).expect("nothing is shared"));
            }
            live.expect("an object")
        };
        let one = run(&[("a", &a1), ("a", &a2), ("b", &b1), ("b", &b2)]);
        let other = run(&[("b", &b1), ("a", &a1), ("b", &b2), ("a", &a2)]);
        prop_assert_eq!(sorted(&one), sorted(&other));
    }

    #[test]
    fn what_is_managed_is_there(steps in prop::collection::vec((0..3usize, configuration("a"), any::<bool>()), 1..6)) {
        let pods = registry().lookup("", "v1", "pods").expect("Pods are built in");
        let mut live: Option<Value> = None;
        for (at, (who, config, update)) in steps.into_iter().enumerate() {
            let manager = ["a", "b", "c"][who];
            let second = i64::try_from(at).expect("small");
            let next = if update {
                let mut new = pods.conform(&config, corten_api::FieldValidation::Strict).map_err(|m| m.text).expect("a Pod").value;
                if let Some(live) = &live {
                    new["metadata"]["uid"] = live["metadata"]["uid"].clone();
                }
                let by = By { manager, subresource: None, now: jiff::Timestamp::from_second(second).expect("a time") };
                pods.track(live.as_ref(), &mut new, by, Subresource::Main);
                new
            } else {
                apply(live.as_ref(), manager, &config, true, second).expect("force")
            };
            let mut bare = next.clone();
            bare["metadata"].as_object_mut().expect("metadata").remove("managedFields");
            let there = fields_of(pods.view(), &bare).with_declared_parents(pods.view());
            for manager in managers::decode(&next["metadata"]["managedFields"]).expect("good entries") {
                let missing = manager.fields.leaves().difference(&there);
                // A list or map that lost its last entry keeps its manager, as upstream leaves it. A protocol that says
                // nothing is there once the object has its defaults, which is its kind's work.
                let mut gone = missing.paths();
                gone.retain(|path| !is_container(path) && !path.ends_with(".protocol"));
                prop_assert!(gone.is_empty(), "{} has {gone:?}, which {bare} lacks", manager.name);
                prop_assert!(!manager.fields.is_empty());
            }
            live = Some(next);
        }
    }

    #[test]
    fn sets_are_sets(a in configuration("a"), b in configuration("a")) {
        let view = registry().lookup("", "v1", "pods").expect("Pods are built in").view();
        let (a, b) = (fields_of(view, &a), fields_of(view, &b));
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(corten_api::apply::set::Set::from_fields(&a.to_fields()), Ok(a));
    }
}

fn is_container(path: &str) -> bool {
    ["labels", "finalizers", "containers", "env", "ports"]
        .iter()
        .any(|name| path.ends_with(&format!(".{name}")))
}
