//! The merge semantics of server-side apply as tables: each topology, and what managers do to it.

use corten_api::registry;
use corten_api::resource::{By, Subresource};
use serde_json::{Value, json};

/// An object after a series of writes.
struct Story {
    plural: (&'static str, &'static str),
    object: Option<Value>,
    second: i64,
}

impl Story {
    fn of(group: &'static str, plural: &'static str) -> Self {
        Self {
            plural: (group, plural),
            object: None,
            second: 0,
        }
    }

    fn write(&mut self, manager: &str, force: Option<bool>, content: &Value) -> Result<(), String> {
        let ty = registry()
            .lookup(self.plural.0, "v1", self.plural.1)
            .expect("a built-in resource");
        let mut object =
            json!({"apiVersion": ty.api_version(), "kind": &*ty.kind, "metadata": {"name": "x"}});
        for (key, value) in content.as_object().into_iter().flatten() {
            match key.as_str() {
                "metadata" => {
                    for (key, value) in value.as_object().into_iter().flatten() {
                        object["metadata"][key] = value.clone();
                    }
                }
                _ => object[key] = value.clone(),
            }
        }
        self.second += 1;
        let by = By {
            manager,
            subresource: None,
            now: jiff::Timestamp::from_second(self.second).expect("a time"),
        };
        let live = self.object.as_ref();
        let new = match force {
            Some(force) => ty
                .server_side_apply(live, &object, by, Subresource::Main, force)
                .map_err(|status| status.message)?,
            None => {
                let decoded = ty.conform(&object, corten_api::FieldValidation::Strict);
                let mut new = decoded.map_err(|misfit| misfit.text)?.value;
                ty.track(live, &mut new, by, Subresource::Main);
                new
            }
        };
        self.object = Some(new);
        Ok(())
    }

    fn owners(&self) -> Vec<String> {
        let entries = self
            .object
            .as_ref()
            .map(|o| o["metadata"]["managedFields"].clone());
        let managers =
            corten_api::apply::managers::decode(&entries.unwrap_or_default()).expect("good entries");
        managers
            .into_iter()
            .map(|m| format!("{}: {}", m.name, m.fields.leaves().paths().join(" ")))
            .collect()
    }
}

enum Step {
    Apply(&'static str, Value),
    Force(&'static str, Value),
    Update(&'static str, Value),
    /// What the apply is answered with.
    Refused(&'static str, Value, &'static str),
}
use Step::{Apply, Force, Refused, Update};

#[track_caller]
fn check(resource: (&'static str, &'static str), steps: Vec<Step>, at: &str, want: Value, owners: &[&str]) {
    let mut story = Story::of(resource.0, resource.1);
    for step in steps {
        match step {
            Apply(who, content) => story.write(who, Some(false), &content).expect("no conflict"),
            Force(who, content) => story.write(who, Some(true), &content).expect("force"),
            Update(who, content) => story.write(who, None, &content).expect("an update"),
            Refused(who, content, text) => {
                assert_eq!(story.write(who, Some(false), &content), Err(text.to_string()));
            }
        }
    }
    let object = story.object.as_ref().expect("an object");
    assert_eq!(object.pointer(at).unwrap_or(&Value::Null), &want);
    assert_eq!(story.owners(), owners);
}

const MAP: (&str, &str) = ("", "configmaps");
const POD: (&str, &str) = ("", "pods");

fn data(text: &str) -> Value {
    let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
    json!({"data": pairs.map(|(k, v)| (k.to_string(), Value::from(v))).collect::<serde_json::Map<_, _>>()})
}

#[test]
fn granular_maps() {
    // Add, change, give up.
    check(
        MAP,
        vec![Apply("a", data("x=1")), Apply("a", data("x=2 y=1"))],
        "/data",
        json!({"x": "2", "y": "1"}),
        &["a: .data.x .data.y"],
    );
    check(
        MAP,
        vec![Apply("a", data("x=1 y=1")), Apply("a", data("y=1"))],
        "/data",
        json!({"y": "1"}),
        &["a: .data.y"],
    );
    check(
        MAP,
        vec![Apply("a", data("x=1")), Apply("a", json!({}))],
        "/data",
        Value::Null,
        &[],
    );
    // Shared values.
    check(
        MAP,
        vec![Apply("a", data("x=1")), Apply("b", data("x=1"))],
        "/data",
        json!({"x": "1"}),
        &["a: .data.x", "b: .data.x"],
    );
    check(
        MAP,
        vec![
            Apply("a", data("x=1")),
            Apply("b", data("x=1")),
            Apply("a", json!({})),
        ],
        "/data",
        json!({"x": "1"}),
        &["b: .data.x"],
    );
    check(
        MAP,
        vec![
            Apply("a", data("x=1")),
            Apply("b", data("x=1")),
            Refused(
                "a",
                data("x=2"),
                "Apply failed with 1 conflict: conflict with \"b\": .data.x",
            ),
        ],
        "/data",
        json!({"x": "1"}),
        &["a: .data.x", "b: .data.x"],
    );
    // Conflict and force.
    check(
        MAP,
        vec![
            Apply("a", data("x=1 y=1")),
            Refused(
                "b",
                data("x=2 y=2 z=1"),
                "Apply failed with 2 conflicts: conflicts with \"a\":\n- .data.x\n- .data.y",
            ),
            Force("b", data("x=2 z=1")),
        ],
        "/data",
        json!({"x": "2", "y": "1", "z": "1"}),
        &["a: .data.y", "b: .data.x .data.z"],
    );
    // What was taken over is no longer the first one's to give up.
    check(
        MAP,
        vec![
            Apply("a", data("x=1")),
            Force("b", data("x=2")),
            Apply("a", json!({})),
        ],
        "/data",
        json!({"x": "2"}),
        &["b: .data.x"],
    );
    // Updates take over without asking, and what they set an applier can take back by force.
    check(
        MAP,
        vec![Apply("a", data("x=1")), Update("u", data("x=2"))],
        "/data",
        json!({"x": "2"}),
        &["u: .data.x"],
    );
    check(
        MAP,
        vec![
            Apply("a", data("x=1")),
            Update("u", data("x=2")),
            Refused(
                "a",
                data("x=1"),
                "Apply failed with 1 conflict: conflict with \"u\" using v1: .data.x",
            ),
            Force("a", data("x=3")),
        ],
        "/data",
        json!({"x": "3"}),
        &["a: .data.x"],
    );
    // An update that removes a field removes its owners.
    check(
        MAP,
        vec![Apply("a", data("x=1 y=1")), Update("u", data("y=1"))],
        "/data",
        json!({"y": "1"}),
        &["a: .data.y"],
    );
    // A field that an update shares stays when the applier gives it up.
    check(
        MAP,
        vec![
            Update("u", data("x=1")),
            Apply("a", data("x=1")),
            Apply("a", json!({})),
        ],
        "/data",
        json!({"x": "1"}),
        &["u: .data.x"],
    );
    // The same update twice.
    check(
        MAP,
        vec![Update("u", data("x=1")), Update("v", data("x=1"))],
        "/data",
        json!({"x": "1"}),
        &["u: .data.x"],
    );
}

fn finalizers(text: &str) -> Value {
    json!({"metadata": {"finalizers": text.split_whitespace().collect::<Vec<_>>()}})
}

#[test]
fn sets() {
    let at = "/metadata/finalizers";
    check(
        MAP,
        vec![Apply("a", finalizers("a/a b/b")), Apply("b", finalizers("c/c"))],
        at,
        json!(["a/a", "b/b", "c/c"]),
        &[
            "a: .metadata.finalizers[=\"a/a\"] .metadata.finalizers[=\"b/b\"]",
            "b: .metadata.finalizers[=\"c/c\"]",
        ],
    );
    check(
        MAP,
        vec![Apply("a", finalizers("a/a b/b")), Apply("a", finalizers("b/b"))],
        at,
        json!(["b/b"]),
        &["a: .metadata.finalizers[=\"b/b\"]"],
    );
    check(
        MAP,
        vec![
            Apply("a", finalizers("a/a")),
            Apply("b", finalizers("a/a")),
            Apply("a", json!({})),
        ],
        at,
        json!(["a/a"]),
        &["b: .metadata.finalizers[=\"a/a\"]"],
    );
    // The configuration's order wins, others' elements keep their places.
    check(
        MAP,
        vec![
            Update("u", finalizers("a/a b/b c/c")),
            Apply("a", finalizers("c/c a/a")),
        ],
        at,
        json!(["b/b", "c/c", "a/a"]),
        &[
            "a: .metadata.finalizers[=\"a/a\"] .metadata.finalizers[=\"c/c\"]",
            "u: .metadata.finalizers[=\"a/a\"] .metadata.finalizers[=\"b/b\"] .metadata.finalizers[=\"c/c\"]",
        ],
    );
    check(
        MAP,
        vec![
            Apply("a", finalizers("a/a")),
            Refused(
                "b",
                finalizers("b/b b/b"),
                "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .metadata.finalizers: duplicate entries for key [=\"b/b\"]",
            ),
        ],
        at,
        json!(["a/a"]),
        &["a: .metadata.finalizers[=\"a/a\"]"],
    );
}

fn containers(list: Value) -> Value {
    json!({"spec": {"containers": list}})
}

#[test]
fn keyed_lists() {
    let at = "/spec/containers";
    let a = || containers(json!([{"name": "a", "image": "1"}]));
    check(
        POD,
        vec![
            Apply("a", a()),
            Apply("b", containers(json!([{"name": "b", "image": "1"}]))),
        ],
        at,
        json!([{"name": "a", "image": "1", "resources": {}}, {"name": "b", "image": "1", "resources": {}}]),
        &[
            "a: .spec.containers[name=\"a\"].image .spec.containers[name=\"a\"].name",
            "b: .spec.containers[name=\"b\"].image .spec.containers[name=\"b\"].name",
        ],
    );
    // A field in another's element.
    check(
        POD,
        vec![
            Apply("a", a()),
            Apply("b", containers(json!([{"name": "a", "tty": true}]))),
        ],
        at,
        json!([{"name": "a", "image": "1", "tty": true, "resources": {}}]),
        &[
            "a: .spec.containers[name=\"a\"].image .spec.containers[name=\"a\"].name",
            "b: .spec.containers[name=\"a\"].name .spec.containers[name=\"a\"].tty",
        ],
    );
    // Given up by one, the element stays with what the other has.
    check(
        POD,
        vec![
            Apply("a", a()),
            Apply("b", containers(json!([{"name": "a", "tty": true}]))),
            Apply("a", json!({"spec": {}})),
        ],
        at,
        json!([{"name": "a", "tty": true, "resources": {}}]),
        &[
            "b: .spec.containers[name=\"a\"].name .spec.containers[name=\"a\"].tty",
            "a: .spec",
        ],
    );
    // Given up by its only manager, the element goes with all that is in it.
    check(
        POD,
        vec![
            Apply("a", a()),
            Apply("b", containers(json!([{"name": "b", "image": "1"}]))),
            Apply("a", json!({"metadata": {"labels": {"l": "m"}}})),
        ],
        at,
        json!([{"name": "b", "image": "1", "resources": {}}]),
        &[
            "b: .spec.containers[name=\"b\"].image .spec.containers[name=\"b\"].name",
            "a: .metadata.labels.l",
        ],
    );
    check(
        POD,
        vec![
            Apply("a", a()),
            Refused(
                "b",
                containers(json!([{"name": "a", "image": "2"}])),
                "Apply failed with 1 conflict: conflict with \"a\": .spec.containers[name=\"a\"].image",
            ),
        ],
        at,
        json!([{"name": "a", "image": "1", "resources": {}}]),
        &["a: .spec.containers[name=\"a\"].image .spec.containers[name=\"a\"].name"],
    );
    // A key that is left out has its default; that the object gets it too is its kind's work.
    let port = |ports: Value| containers(json!([{"name": "a", "ports": ports}]));
    check(
        POD,
        vec![
            Apply(
                "a",
                port(
                    json!([{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]),
                ),
            ),
            Apply("a", port(json!([{"containerPort": 53}]))),
        ],
        "/spec/containers/0/ports",
        json!([{"containerPort": 53}]),
        &[
            "a: .spec.containers[name=\"a\"].name .spec.containers[name=\"a\"].ports[containerPort=53,protocol=\"TCP\"].containerPort",
        ],
    );
}

#[test]
fn atomic_values() {
    let args = |list: Value| containers(json!([{"name": "a", "args": list}]));
    let own = ".spec.containers[name=\"a\"].args .spec.containers[name=\"a\"].name";
    check(
        POD,
        vec![
            Apply("a", args(json!(["1", "2"]))),
            Apply("a", args(json!(["3"]))),
        ],
        "/spec/containers/0/args",
        json!(["3"]),
        &[&format!("a: {own}")],
    );
    check(
        POD,
        vec![
            Apply("a", args(json!(["1"]))),
            Refused(
                "b",
                args(json!(["2"])),
                "Apply failed with 1 conflict: conflict with \"a\": .spec.containers[name=\"a\"].args",
            ),
        ],
        "/spec/containers/0/args",
        json!(["1"]),
        &[&format!("a: {own}")],
    );
    check(
        POD,
        vec![Apply("a", args(json!(["1"]))), Apply("b", args(json!(["1"])))],
        "/spec/containers/0/args",
        json!(["1"]),
        &[&format!("a: {own}"), &format!("b: {own}")],
    );
    check(
        POD,
        vec![Apply("a", args(json!(["1"]))), Force("b", args(json!(["2"])))],
        "/spec/containers/0/args",
        json!(["2"]),
        &["a: .spec.containers[name=\"a\"].name", &format!("b: {own}")],
    );
    // A selector is one value: a change of any part is a conflict on the whole.
    let selector = |labels: Value| json!({"spec": {"nodeSelector": labels}});
    check(
        POD,
        vec![
            Apply("a", selector(json!({"x": "1"}))),
            Refused(
                "b",
                selector(json!({"y": "1"})),
                "Apply failed with 1 conflict: conflict with \"a\": .spec.nodeSelector",
            ),
            Force("b", selector(json!({"y": "1"}))),
        ],
        "/spec/nodeSelector",
        json!({"y": "1"}),
        &["b: .spec.nodeSelector"],
    );
    check(
        POD,
        vec![Apply("a", selector(json!({"x": "1"}))), Apply("a", json!({}))],
        "/spec/nodeSelector",
        Value::Null,
        &[],
    );
    let owner = |name: &str| json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u"}]}});
    check(
        POD,
        vec![
            Apply("a", owner("x")),
            Refused(
                "b",
                owner("y"),
                "Apply failed with 1 conflict: conflict with \"a\": .metadata.ownerReferences[uid=\"u\"]",
            ),
        ],
        "/metadata/ownerReferences/0/name",
        json!("x"),
        &["a: .metadata.ownerReferences[uid=\"u\"]"],
    );
}

#[test]
fn open_values_merge_by_their_own_form() {
    let revision = |data: Value| json!({"data": data, "revision": 1});
    check(
        ("apps", "controllerrevisions"),
        vec![
            Apply("a", revision(json!({"spec": {"x": 1, "l": [1]}}))),
            Apply("b", revision(json!({"spec": {"y": 2}}))),
        ],
        "/data",
        json!({"spec": {"x": 1, "l": [1], "y": 2}}),
        &[
            "a: .revision .data.spec.l .data.spec.x",
            "b: .revision .data.spec.y",
        ],
    );
}

#[test]
fn system_fields_belong_to_nobody() {
    check(
        MAP,
        vec![
            Apply("a", json!({"metadata": {"namespace": "n"}})),
            Update(
                "u",
                json!({"metadata": {"namespace": "n", "uid": "u", "generation": 3}}),
            ),
        ],
        "/metadata/managedFields",
        Value::Null,
        &[],
    );
}

#[test]
fn an_element_named_by_defaults_alone_stays_when_it_is_applied_again() {
    let mut story = Story::of("apps", "deployments");
    let config = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "ports": [{}]}]}}}});
    for _ in 0..2 {
        story.write("m", Some(true), &config).expect("applied");
        let object = story.object.as_ref().expect("written");
        let ports = &object["spec"]["template"]["spec"]["containers"][0]["ports"];
        assert_eq!(*ports, json!([{"containerPort": 0}]));
    }
}

#[test]
fn an_element_whose_key_says_nothing_stays_when_it_is_applied_again() {
    for protocol in [json!(""), Value::Null] {
        let ports = json!([{"containerPort": 80, "protocol": protocol}]);
        let config = containers(json!([{"name": "a", "ports": ports}]));
        check(
            POD,
            vec![Apply("m", config.clone()), Apply("m", config)],
            "/spec/containers/0/ports",
            json!([{"containerPort": 80}]),
            &[
                "m: .spec.containers[name=\"a\"].name .spec.containers[name=\"a\"].ports[containerPort=80,protocol=\"TCP\"].containerPort .spec.containers[name=\"a\"].ports[containerPort=80,protocol=\"TCP\"].protocol",
            ],
        );
    }
}
