//! CEL rules of custom resources: what definitions are told, and what rules do to objects.

mod common;

use common::*;
use corten_api::resource::Subresource;
use corten_api::{ResourceType, custom};
use serde_json::{Value, json};

const CRD: Name = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");

/// A definition with a status subresource whose `spec` has this schema.
fn definition(spec: Value) -> Value {
    json!({
        "metadata": {"name": "dogs.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "dogs", "kind": "Dog", "listKind": "DogList", "singular": "dog"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": spec,
                    "status": {"type": "object", "properties": {"n": {"type": "integer"}}},
                }}},
            }],
        },
    })
}

/// A schema with one more rule.
fn with(mut schema: Value, rule: Value) -> Value {
    let rule = if rule.is_string() {
        json!({"rule": rule})
    } else {
        rule
    };
    schema["x-kubernetes-validations"] = json!([rule]);
    schema
}

/// What a definition is refused for; paths without that of `spec`.
#[track_caller]
fn told(spec: Value, want: &[&str]) {
    let got = create(resource(CRD), &definition(spec)).map_or_else(causes, |_| Vec::new());
    let base = "spec.validation.openAPIV3Schema.properties[spec]";
    let got: Vec<String> = got
        .iter()
        .map(|line| line.strip_prefix(base).unwrap_or(line).replace(base, "@"))
        .collect();
    assert_eq!(got, want);
}

fn dogs(definition: &Value) -> ResourceType {
    create(resource(CRD), definition).unwrap_or_else(|status| panic!("{}", status.message));
    custom::types(definition).unwrap().remove(0)
}

fn dog(spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Dog", "metadata": {"name": "rex"}, "spec": spec})
}

fn stored_dog(spec: &Value) -> Value {
    let mut stored = dog(spec);
    stored["metadata"] = json!({"name": "rex", "namespace": "default", "uid": "u", "resourceVersion": "7"});
    stored
}

/// The causes for which an object with this spec is refused when it is created.
#[track_caller]
fn created(schema: Value, spec: Value, want: &[&str]) {
    let kind = dogs(&definition(schema));
    let got = create(&kind, &dog(&spec)).map_or_else(causes, |_| Vec::new());
    assert_eq!(got, want);
}

/// The causes for which one spec is refused after another.
#[track_caller]
fn updated(schema: Value, old: Value, new: Value, want: &[&str]) {
    let kind = dogs(&definition(schema));
    let stored = stored_dog(&old);
    let got = change(&kind, &stored, json!({"spec": new}), Subresource::Main);
    assert_eq!(got, want);
}

fn change(kind: &ResourceType, stored: &Value, with: Value, part: Subresource) -> Vec<String> {
    let mut new = stored.clone();
    for (key, value) in with.as_object().unwrap() {
        new[key] = value.clone();
    }
    kind.stamp_update(&mut new, stored, part, now());
    kind.prepare_update(&mut new, stored, part)
        .map_or_else(causes, |()| Vec::new())
}

fn object(properties: Value) -> Value {
    json!({"type": "object", "properties": properties})
}

#[test]
fn rules_that_do_not_compile() {
    let shown = |rule: &str| {
        let rule = serde_json::to_string(rule).unwrap();
        format!(
            "Invalid value: {{\"Rule\":{rule},\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}: "
        )
    };
    let n = || object(json!({"n": {"type": "integer"}}));
    for (rule, error) in [
        (
            "self.x > 1",
            "compilation failed: ERROR: <input>:1:5: undefined field 'x'\n | self.x > 1\n | ....^",
        ),
        (
            "self.n > 'a'",
            "compilation failed: ERROR: <input>:1:8: found no matching overload for '_>_' applied to '(int, string)'\n | self.n > 'a'\n | .......^",
        ),
        (
            "object.n > 1",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'object' (in container '')\n | object.n > 1\n | ^",
        ),
        ("self.n + 1", "cel expression must evaluate to a bool"),
    ] {
        told(
            with(n(), json!(rule)),
            &[&format!(
                ".x-kubernetes-validations[0].rule|Invalid|{}{error}",
                shown(rule)
            )],
        );
    }
    told(
        with(n(), json!({"rule": "self.n > 1", "messageExpression": "self.n"})),
        &[
            ".x-kubernetes-validations[0].messageExpression|Invalid|Invalid value: {\"Rule\":\"self.n > 1\",\"Message\":\"\",\"MessageExpression\":\"self.n\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: messageExpression must evaluate to a string",
        ],
    );
    told(
        with(n(), json!({"rule": "self.n > 1", "optionalOldSelf": true})),
        &[
            ".x-kubernetes-validations[0].optionalOldSelf|Invalid|Invalid value: true: may not be set if oldSelf is not used in rule",
        ],
    );
}

#[test]
fn transition_rules_need_a_value_to_compare_with() {
    let item = with(
        object(json!({"k": {"type": "string"}})),
        json!("self.k == oldSelf.k"),
    );
    let list = |kind: &str| {
        json!({"type": "array", "maxItems": 5, "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": item["properties"],
                "x-kubernetes-validations": item["x-kubernetes-validations"]}})
    };
    told(object(json!({"l": list("map")})), &[]);
    let mut atomic = list("atomic");
    atomic
        .as_object_mut()
        .unwrap()
        .remove("x-kubernetes-list-map-keys");
    told(
        object(json!({"l": atomic})),
        &[
            ".properties[l].items.x-kubernetes-validations[0].rule|Invalid|Invalid value: \"self.k == oldSelf.k\": oldSelf cannot be used on the uncorrelatable portion of the schema within @.properties[l]",
        ],
    );
}

#[test]
fn rules_that_may_cost_too_much() {
    let text = |max: i64| json!({"type": "string", "maxLength": max});
    let list = |items: i64, length: i64| {
        let rule = "self.all(x, x.contains('gpu'))";
        object(
            json!({"l": with(json!({"type": "array", "maxItems": items, "items": text(length)}), json!(rule))}),
        )
    };
    // The largest lists that upstream's validator takes for each length of their elements.
    for (length, most) in [(16, 909_090), (63, 333_333), (253, 94_339), (1024, 24_154)] {
        told(list(most, length), &[]);
        let got =
            create(resource(CRD), &definition(list(most + 1, length))).map_or_else(causes, |_| Vec::new());
        assert_eq!(got.len(), 1, "{length}: {got:?}");
        assert!(
            got[0].contains("estimated rule cost exceeds budget by factor of 1.0000"),
            "{got:?}"
        );
    }
    let unbounded = json!({"type": "array", "items": {"type": "string"}});
    told(
        object(json!({"l": with(unbounded, json!("self.all(x, x.contains('gpu'))"))})),
        &[
            ".properties[l].x-kubernetes-validations[0].rule|Forbidden|Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
            ".properties[l].x-kubernetes-validations[0].rule|Forbidden|Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
            "spec.validation.openAPIV3Schema|Forbidden|Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
        ],
    );
    // A text made of a number has no bound that could be known; a format has.
    let numbers = || object(json!({"a": {"type": "integer"}, "b": {"type": "integer"}}));
    let message = |expression: &str| json!({"rule": "self.a < self.b", "messageExpression": expression});
    let got = create(
        resource(CRD),
        &definition(with(numbers(), message("'a (' + string(self.a) + ')'"))),
    )
    .map_or_else(causes, |_| Vec::new());
    assert!(
        got[0].contains("messageExpression|Forbidden|Forbidden: estimated messageExpression cost exceeds budget by factor of more than 100x"),
        "{got:?}"
    );
    told(with(numbers(), message("'a (%d)'.format([self.a])")), &[]);
}

#[test]
fn rules_on_new_objects() {
    let range = || {
        with(
            object(json!({"min": {"type": "integer"}, "max": {"type": "integer"}})),
            json!("self.min <= self.max"),
        )
    };
    created(range(), json!({"min": 1, "max": 2}), &[]);
    created(
        range(),
        json!({"min": 3, "max": 2}),
        &["spec|Invalid|Invalid value: failed rule: self.min <= self.max"],
    );
    created(
        range(),
        json!({"min": 3}),
        &["spec|Invalid|Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max"],
    );
    created(
        object(
            json!({"n": with(json!({"type": "integer"}), json!({"rule": "self > 2", "message": " be more "}))}),
        ),
        json!({"n": 1}),
        &["spec.n|Invalid|Invalid value: 1: be more"],
    );
    created(
        with(
            object(json!({"n": {"type": "integer"}})),
            json!({"rule": "self.n > 2", "messageExpression": "'%d is too little'.format([self.n])",
                "reason": "FieldValueForbidden", "fieldPath": ".n"}),
        ),
        json!({"n": 1}),
        &["spec.n|Forbidden|Forbidden: 1 is too little"],
    );
    created(
        with(
            object(json!({"n": {"type": "integer"}})),
            json!({"rule": "self.n > 2", "message": "m", "messageExpression": "string(1 / self.n > 5)", "reason": "FieldValueRequired"}),
        ),
        json!({"n": 0}),
        &["spec|Required|Required value: m"],
    );
}

#[test]
fn what_rules_can_see() {
    let schema = object(json!({
        "when": {"type": "string", "format": "date-time"},
        "for": {"type": "string", "format": "duration"},
        "data": {"type": "string", "format": "byte", "maxLength": 50},
        "a-b": {"type": "integer"},
        "either": {"x-kubernetes-int-or-string": true},
        "ratio": {"type": "number"},
        "labels": {"type": "object", "maxProperties": 5, "additionalProperties": {"type": "string", "maxLength": 5}},
        "set": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "set", "items": {"type": "integer"}},
        "maybe": {"type": "object", "nullable": true, "properties": {"x": {"type": "integer"}}},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
    }));
    let spec = json!({
        "when": "2026-01-02T03:04:05Z", "for": "90m", "data": "aGk=", "a-b": 3, "either": "50%", "ratio": 2,
        "labels": {"k": "v"}, "set": [1, 2], "maybe": null,
        "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": 1}},
    });
    for rule in [
        "self.when.getFullYear() == 2026",
        "self.__for__ == duration('1h30m')",
        "self.data == b'hi'",
        "self.a__dash__b == 3",
        "type(self.either) == string && self.either.endsWith('%')",
        "self.ratio == 2.0",
        "self.labels.k == 'v' && self.labels.all(k, self.labels[k].size() == 1)",
        "self.set == [2, 1]",
        "self.set + [2, 3] == [1, 2, 3]",
        "self.maybe == null",
        "self.pod.metadata.name == 'p' && self.pod.kind == 'Pod'",
        "!has(self.pod.metadata.generateName)",
    ] {
        created(with(schema.clone(), json!(rule)), spec.clone(), &[]);
    }
    created(
        with(schema.clone(), json!("self.either > 5")),
        spec.clone(),
        &[
            "spec|Invalid|Invalid value: \"object\": 'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self.either > 5",
        ],
    );
    // Unknown fields that are kept, and metadata but for names, are not to be seen.
    let got = create(
        resource(CRD),
        &definition(with(schema.clone(), json!("self.pod.spec.x == 1"))),
    )
    .map_or_else(causes, |_| Vec::new());
    assert!(got[0].contains("undefined field 'spec'"), "{got:?}");
    let got = create(
        resource(CRD),
        &definition(with(schema, json!("self.pod.metadata.labels.x == 1"))),
    )
    .map_or_else(causes, |_| Vec::new());
    assert!(got[0].contains("undefined field 'labels'"), "{got:?}");
}

#[test]
fn transition_rules() {
    let immutable = || {
        object(
            json!({"n": with(json!({"type": "integer"}), json!({"rule": "self == oldSelf", "message": "n is immutable"}))}),
        )
    };
    created(immutable(), json!({"n": 1}), &[]);
    updated(immutable(), json!({"n": 1}), json!({"n": 1}), &[]);
    updated(
        immutable(),
        json!({"n": 1}),
        json!({"n": 2}),
        &["spec.n|Invalid|Invalid value: 2: n is immutable"],
    );
    updated(immutable(), json!({}), json!({"n": 2}), &[]);
    let once = |rule: &str| {
        object(json!({"n": with(json!({"type": "integer"}), json!({"rule": rule, "optionalOldSelf": true}))}))
    };
    created(
        once("oldSelf.hasValue() || self == 1"),
        json!({"n": 2}),
        &["spec.n|Invalid|Invalid value: 2: failed rule: oldSelf.hasValue() || self == 1"],
    );
    updated(
        once("self > oldSelf.orValue(0)"),
        json!({"n": 1}),
        json!({"n": 2}),
        &[],
    );
    let keyed = || {
        let item = with(
            json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}),
            json!("self.v >= oldSelf.v"),
        );
        object(
            json!({"l": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"], "items": item}}),
        )
    };
    let (a, b) = (json!({"k": "a", "v": 5}), json!({"k": "b", "v": 1}));
    updated(keyed(), json!({"l": [a, b]}), json!({"l": [b, a]}), &[]);
    updated(
        keyed(),
        json!({"l": [a, b]}),
        json!({"l": [b, {"k": "a", "v": 4}]}),
        &["spec.l[1]|Invalid|Invalid value: failed rule: self.v >= oldSelf.v"],
    );
}

#[test]
fn what_was_wrong_before_is_let_pass() {
    let schema = || {
        object(json!({
            "a": with(object(json!({"n": {"type": "integer"}})), json!("self.n > 5")),
            "b": {"type": "integer"},
        }))
    };
    updated(
        schema(),
        json!({"a": {"n": 1}, "b": 1}),
        json!({"a": {"n": 1}, "b": 2}),
        &[],
    );
    updated(
        schema(),
        json!({"a": {"n": 1}}),
        json!({"a": {"n": 2}}),
        &["spec.a|Invalid|Invalid value: failed rule: self.n > 5"],
    );
}

#[test]
fn the_status_is_checked_too() {
    let mut own = definition(object(json!({"n": {"type": "integer"}})));
    own["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
        json!([{"rule": "!has(self.status) || self.status.n <= self.spec.n", "message": "too many"}]);
    let kind = dogs(&own);
    let stored = stored_dog(&json!({"n": 3}));
    let status = |n: i64| json!({"status": {"n": n}});
    assert_eq!(change(&kind, &stored, status(3), Subresource::Status), [""; 0]);
    assert_eq!(
        change(&kind, &stored, status(4), Subresource::Status),
        ["<nil>|Invalid|Invalid value: too many"]
    );
    // Names of the object itself are there at the root.
    own["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = json!([{"rule": "self.metadata.name == 'rex' && self.kind == 'Dog' && self.apiVersion.startsWith('example.com/')"}]);
    let kind = dogs(&own);
    assert!(create(&kind, &dog(&json!({}))).is_ok());
}

#[test]
fn objects_of_the_wrong_form_are_not_run_through_rules() {
    created(
        with(
            json!({"type": "object", "required": ["m"], "properties": {"m": {"type": "integer"}, "n": {"type": "integer"}}}),
            json!("self.n > 5"),
        ),
        json!({"n": 1}),
        &[
            "spec.m|Required|Required value",
            "<nil>|Invalid|Invalid value: \"null\": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ],
    );
}

#[test]
fn the_cost_of_a_request_is_bounded() {
    let rule = "self.all(x, self.all(y, x == y || x != y))";
    let list = with(
        json!({"type": "array", "maxItems": 1000, "items": {"type": "integer"}}),
        json!(rule),
    );
    let numbers: Vec<i64> = (0..1000).collect();
    let kind = custom::types(&definition(object(json!({"l": list}))))
        .unwrap()
        .remove(0);
    let got = create(&kind, &dog(&json!({"l": numbers}))).map_or_else(causes, |_| Vec::new());
    assert_eq!(
        got,
        [format!(
            "spec.l|Invalid|Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {rule}"
        )]
    );
    // Many rules, each within its own bound.
    let rule = format!("self.all(x, !x.matches('{}'))", "a*".repeat(50));
    let list = |count: usize| {
        let mut list =
            json!({"type": "array", "maxItems": 20, "items": {"type": "string", "maxLength": 10_000}});
        list["x-kubernetes-validations"] = vec![json!({"rule": rule.replace('!', "")}); count].into();
        object(json!({"l": list}))
    };
    let texts = vec!["a".repeat(9_000); 20];
    let kind = |count| custom::types(&definition(list(count))).unwrap().remove(0);
    let run = |count| create(&kind(count), &dog(&json!({"l": texts}))).map_or_else(causes, |_| Vec::new());
    assert_eq!(run(20), [""; 0]);
    assert_eq!(
        run(25),
        [
            "spec.l|Invalid|Invalid value: \"array\": validation failed due to running out of cost budget, no further validation rules will be run"
        ]
    );
}

#[test]
fn defaults_must_keep_the_rules() {
    let schema = |default: i64| {
        let mut own = with(json!({"type": "integer"}), json!("self > 5"));
        own["default"] = default.into();
        object(json!({"n": own}))
    };
    told(schema(6), &[]);
    told(
        schema(5),
        &[".properties[n].default|Invalid|Invalid value: 5: failed rule: self > 5"],
    );
}
