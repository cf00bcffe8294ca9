//! A CustomResourceDefinition with everything a definition can have, as its user sees it through kubectl from its
//! first object to its last.

use std::time::Duration;

use corten_tests::gadgets::{convert, definition, gadget};
use corten_tests::wait::expect;
use corten_tests::{Kubectl, Lone, Webhook, eventually};
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(30);
const DEFINITION: &str = "customresourcedefinition gadgets.example.com";

#[track_caller]
fn says(kubectl: &Kubectl, line: &str, want: &str) {
    let said = kubectl.ok(line);
    assert!(said.contains(want), "{line}: {want:?} is not in {said}");
}

#[track_caller]
fn refused(kubectl: &Kubectl, words: &[&str], stdin: &str, want: &str) {
    let finished = kubectl.run(words, stdin);
    assert!(!finished.succeeded(), "{finished}");
    assert!(finished.stderr.contains(want), "{want:?} is not in {finished}");
}

#[test]
fn a_definition_with_all_features_through_kubectl() {
    let webhook = Webhook::start(convert);
    let server = Lone::start("info");
    let kubectl = &server.kubectl;
    kubectl.apply(&definition(&webhook.client_config()));
    says(
        kubectl,
        &format!("wait {DEFINITION} --for=condition=Established --timeout=30s")
            .replace("n gadgets", "n/gadgets"),
        "condition met",
    );
    eventually("discovery knows it", DEADLINE, || {
        let said = kubectl.line("api-resources --api-group=example.com").stdout;
        expect(said.contains("gadgets"), || said.clone())
    });
    eventually("explain knows it", DEADLINE, || {
        let said = kubectl
            .line("explain gadgets.spec.size --api-version=example.com/v1")
            .stdout;
        expect(said.contains("How wide it is."), || said.clone())
    });

    // Defaults, pruning, validation.
    let mut first = gadget("first", &json!({ "size": "3", "junk": 1 }));
    refused(
        kubectl,
        &["apply", "-f", "-"],
        &first.to_string(),
        "unknown field \"spec.junk\"",
    );
    let lax = ["apply", "--validate=false", "-f", "-"];
    assert_eq!(
        kubectl.run(&lax, &first.to_string()).ok().trim(),
        "gadget.example.com/first created"
    );
    assert_eq!(
        kubectl.json("gadgets.v1.example.com first")["spec"],
        json!({ "size": "3", "colour": "grey" })
    );
    let bad = gadget("bad", &json!({ "size": "1", "colour": "pink" }));
    refused(
        kubectl,
        &["apply", "-f", "-"],
        &bad.to_string(),
        "Unsupported value: \"pink\"",
    );
    kubectl.apply(&gadget("second", &json!({ "size": "7", "colour": "blue" })));

    // Columns, wide ones too; the other version; fields that select.
    let wide = kubectl.ok("get gg -o wide");
    let words: Vec<&str> = wide
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(words, ["NAME", "SIZE", "COLOUR"], "{wide}");
    assert!(!kubectl.ok("get gg").contains("COLOUR"));
    says(
        kubectl,
        "get gadgets.v2.example.com first -o jsonpath={.spec}",
        "\"width\":3",
    );
    says(
        kubectl,
        "get gadgets --field-selector=spec.colour=blue -o name",
        "gadget.example.com/second",
    );
    assert_eq!(
        kubectl.ok("get gadgets --field-selector=spec.colour=red -o name"),
        ""
    );

    // A transition rule, in both versions; status and scale.
    first["spec"] = json!({ "size": "2" });
    refused(
        kubectl,
        &["apply", "-f", "-"],
        &first.to_string(),
        "a gadget does not shrink",
    );
    let narrow = [
        "patch",
        "gadgets.v2.example.com",
        "first",
        "--type=merge",
        "-p",
        r#"{"spec":{"width":1}}"#,
    ];
    refused(kubectl, &narrow, "", "a gadget does not shrink");
    says(
        kubectl,
        "scale gadgets.v2.example.com/first --replicas=5",
        "scaled",
    );
    assert_eq!(kubectl.json("gadgets.v1.example.com first")["spec"]["size"], "5");
    let status = r#"patch gadgets.v1.example.com first --subresource=status --type=merge -p {"status":{"width":4},"spec":{"size":"9"}}"#;
    says(kubectl, status, "patched");
    let stored = kubectl.json("gadgets.v1.example.com first");
    assert_eq!(
        (&stored["status"]["width"], &stored["spec"]["size"]),
        (&json!(4), &json!("5"))
    );

    upgraded(kubectl);

    // It goes with its objects: who defines it again finds none of them.
    let mut again = kubectl.json(DEFINITION);
    says(kubectl, &format!("delete {DEFINITION} --timeout=30s"), "deleted");
    eventually("the resource is gone", DEADLINE, || {
        let finished = kubectl.line("get --raw /apis/example.com/v2/gadgets");
        expect(finished.stderr.contains("NotFound"), || finished.to_string())
    });
    again["metadata"] = json!({ "name": again["metadata"]["name"] });
    kubectl.apply(&again);
    eventually("it is served again, and empty", DEADLINE, || {
        let listed = kubectl.line("get gadgets.v2.example.com -A -o name");
        expect(listed.succeeded() && listed.stdout.is_empty(), || {
            listed.to_string()
        })
    });
}

#[test]
fn a_policy_is_told_what_does_not_fit_the_types_it_is_about() {
    let server = Lone::start("info");
    let kubectl = &server.kubectl;
    let spec = json!({ "type": "object", "properties": { "size": { "type": "integer" } } });
    kubectl.apply(&json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "things.example.org" },
        "spec": { "group": "example.org", "scope": "Namespaced", "names": { "plural": "things", "kind": "Thing" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": spec } } } }] },
    }));
    let rule = |group: &str, resource: &str| json!({ "apiGroups": [group], "apiVersions": ["v1"], "operations": ["*"], "resources": [resource] });
    kubectl.apply(&json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": "sizes" },
        "spec": { "matchConstraints": { "resourceRules": [rule("apps", "deployments"), rule("example.org", "things")] },
            "validations": [{ "expression": "has(object.metadata.labels)" }, { "expression": "object.spec.replicas > '1'" }] },
    }));
    let status = eventually("its types are checked", DEADLINE, || {
        let status = kubectl.json("validatingadmissionpolicy sizes")["status"].clone();
        expect(status["observedGeneration"] == 1, || status.to_string()).map(|()| status)
    });
    let warnings = status["typeChecking"]["expressionWarnings"].as_array();
    let warnings = warnings.expect("warnings");
    assert_eq!(warnings.len(), 1, "{status}");
    assert_eq!(warnings[0]["fieldRef"], "spec.validations[1].expression");
    let text = warnings[0]["warning"].as_str().unwrap_or_default();
    for want in [
        "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'",
        "example.org/v1, Kind=Thing: ERROR: <input>:1:12: undefined field 'replicas'",
    ] {
        assert!(text.contains(want), "{want} is not in {text}");
    }
}

/// What is stored moves to the new version, and the old one goes.
fn upgraded(kubectl: &Kubectl) {
    let stored = || kubectl.json(DEFINITION)["status"]["storedVersions"].clone();
    assert_eq!(stored(), json!(["v1"]));
    let storage = r#"[{"op":"replace","path":"/spec/versions/0/storage","value":false},{"op":"replace","path":"/spec/versions/1/storage","value":true}]"#;
    let mut words: Vec<&str> = vec!["patch"];
    words.extend(DEFINITION.split(' '));
    let patch = |more: &[&str]| kubectl.run(&[&words, more].concat(), "");
    patch(&["--type=json", "-p", storage]).ok();
    eventually("both versions are noted", DEADLINE, || {
        expect(stored() == json!(["v1", "v2"]), || stored().to_string())
    });
    let drop_v1 = r#"[{"op":"remove","path":"/spec/versions/0"}]"#;
    let early = patch(&["--type=json", "-p", drop_v1]);
    let want = "must have the storedVersions v1";
    assert!(
        !early.succeeded() && early.stderr.contains("v1"),
        "{want}: {early}"
    );
    let all = kubectl.ok("get gadgets.v2.example.com -o json");
    says_from(
        kubectl,
        &["replace", "-f", "-"],
        &all,
        "gadget.example.com/first replaced",
    );
    let migrated = r#"{"status":{"storedVersions":["v2"]}}"#;
    patch(&["--subresource=status", "--type=merge", "-p", migrated]).ok();
    patch(&["--type=json", "-p", drop_v1]).ok();
    eventually("the old version is gone", DEADLINE, || {
        let finished = kubectl.line("get --raw /apis/example.com/v1/gadgets");
        expect(finished.stderr.contains("NotFound"), || finished.to_string())
    });
    // What is stored was rewritten: nobody is asked to convert it any more, and it is of the new version.
    let nobody = r#"[{"op":"replace","path":"/spec/conversion","value":{"strategy":"None"}}]"#;
    patch(&["--type=json", "-p", nobody]).ok();
    for (name, width) in [("first", 5), ("second", 7)] {
        let spec = kubectl.json(&format!("gadgets.v2.example.com {name}"))["spec"].clone();
        assert_eq!(
            (&spec["width"], &spec["size"]),
            (&json!(width), &json!(null)),
            "{spec}"
        );
    }
}

#[track_caller]
fn says_from(kubectl: &Kubectl, words: &[&str], stdin: &str, want: &str) {
    let said = kubectl.run(words, stdin).ok();
    assert!(said.contains(want), "{want:?} is not in {said}");
}
