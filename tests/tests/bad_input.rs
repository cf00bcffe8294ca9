//! Bad input gets Kubernetes' own error - code, reason, field - and the server lives.

use corten_tests::api::{Answer, Api};
use corten_tests::{Cases, Cluster, manifests};
use serde_json::{Value, json};

/// What the server must say.
struct Want {
    code: u16,
    reason: &'static str,
    /// One of `details.causes[].field`, or empty.
    field: &'static str,
    /// Part of the message.
    message: &'static str,
}

fn want(code: u16, reason: &'static str, field: &'static str, message: &'static str) -> Want {
    Want {
        code,
        reason,
        field,
        message,
    }
}

#[track_caller]
fn check(answer: &Answer, want: &Want) {
    let status = answer.json();
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text.chars().take(600).collect();
    assert_eq!(
        (answer.code, status["reason"].as_str()),
        (want.code, Some(want.reason)),
        "{text}"
    );
    assert_eq!(
        (&status["kind"], &status["status"], &status["code"]),
        (&json!("Status"), &json!("Failure"), &json!(want.code))
    );
    let message = status["message"].as_str().unwrap_or_default();
    assert!(
        message.contains(want.message),
        "{:?} is not in {message:?}",
        want.message
    );
    if !want.field.is_empty() {
        let causes = status["details"]["causes"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        assert!(
            causes.iter().any(|cause| cause["field"] == want.field),
            "{} is not among {causes:?}",
            want.field
        );
    }
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const MERGE: &str = "application/merge-patch+json";

/// `base` with the value at a JSON pointer replaced or, with `null`, removed.
fn with(mut base: Value, pointer: &str, value: Value) -> Vec<u8> {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = base.pointer_mut(parent).expect("the parent is there");
    match parent {
        Value::Object(map) if value.is_null() => drop(map.remove(key)),
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        other => other[key.parse::<usize>().expect("an index")] = value,
    }
    base.to_string().into_bytes()
}

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

#[test]
fn bad_input_gets_kubernetes_errors() {
    let cluster = Cluster::create("bad", 1);
    let api = Api::admin(&cluster);
    let (web, pod) = (|| manifests::web("web", 1), || manifests::shell("pod", "true"));
    let service = || manifests::service("web");
    assert_eq!(api.post(DEPLOYMENTS, &web()).code, 201);
    assert_eq!(api.post(CONFIG_MAPS, &config_map("there")).code, 201);
    assert_eq!(api.post(SERVICES, &service()).code, 201);
    assert_eq!(
        api.post(PODS, &manifests::shell("running", "sleep 1000")).code,
        201
    );
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let named = |path: &str, name: &str| format!("{path}/{name}");
    let deep = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"deep"}},"x":{}1{}}}"#,
        r#"{"a":"#.repeat(10_000),
        "}".repeat(10_000)
    );
    let deep_list = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","data":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let large = with(config_map("large"), "/data/a", "x".repeat(10 << 20).into());
    let duplicate = web()
        .to_string()
        .replace(r#""replicas":1"#, r#""replicas":1,"replicas":2"#)
        .into_bytes();

    type Row<'a> = (&'a str, &'a str, String, &'a str, Vec<u8>, Want);
    let rows: Vec<Row> = vec![
        ("an unknown field", "POST", strict.clone(), JSON, with(web(), "/spec/replicaz", json!(1)),
            want(400, "BadRequest", "", r#"strict decoding error: unknown field "spec.replicaz""#)),
        ("an unknown field, deep", "POST", strict.clone(), JSON,
            with(web(), "/spec/template/spec/containers/0/imagee", json!("x")),
            want(400, "BadRequest", "", r#"unknown field "spec.template.spec.containers[0].imagee""#)),
        ("a duplicate field", "POST", strict.clone(), JSON, duplicate,
            want(400, "BadRequest", "", r#"strict decoding error: duplicate field "spec.replicas""#)),
        ("a wrong type", "POST", DEPLOYMENTS.into(), JSON, with(web(), "/spec/replicas", json!("three")),
            want(400, "BadRequest", "", "cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32")),
        ("a list where an object belongs", "POST", DEPLOYMENTS.into(), JSON, with(web(), "/spec/selector", json!([])),
            want(400, "BadRequest", "", "spec.selector")),
        ("a missing selector", "POST", DEPLOYMENTS.into(), JSON, with(web(), "/spec/selector", Value::Null),
            want(422, "Invalid", "spec.selector", "Required value")),
        ("a selector that misses the template", "POST", DEPLOYMENTS.into(), JSON,
            with(web(), "/spec/selector/matchLabels/app", json!("other")),
            want(422, "Invalid", "spec.template.metadata.labels", "`selector` does not match template `labels`")),
        ("negative replicas", "POST", DEPLOYMENTS.into(), JSON, with(web(), "/spec/replicas", json!(-1)),
            want(422, "Invalid", "spec.replicas", "must be greater than or equal to 0")),
        ("a container without name", "POST", PODS.into(), JSON, with(pod(), "/spec/containers/0/name", Value::Null),
            want(422, "Invalid", "spec.containers[0].name", "Required value")),
        ("no containers", "POST", PODS.into(), JSON, with(pod(), "/spec/containers", json!([])),
            want(422, "Invalid", "spec.containers", "Required value")),
        ("an unsupported restart policy", "POST", PODS.into(), JSON, with(pod(), "/spec/restartPolicy", json!("Sometimes")),
            want(422, "Invalid", "spec.restartPolicy", r#"Unsupported value: "Sometimes""#)),
        ("an amount that is none", "POST", PODS.into(), JSON,
            with(pod(), "/spec/containers/0/resources", json!({"requests": {"cpu": "many"}})),
            want(400, "BadRequest", "", "quantities must match the regular expression")),
        ("an immutable selector", "PATCH", named(DEPLOYMENTS, "web"), MERGE,
            json!({"spec": {"selector": {"matchLabels": {"app": "x"}}, "template": {"metadata": {"labels": {"app": "x"}}}}}).to_string().into_bytes(),
            want(422, "Invalid", "spec.selector", "field is immutable")),
        ("a Pod's immutable spec", "PATCH", named(PODS, "running"), MERGE,
            json!({"spec": {"restartPolicy": "Never"}}).to_string().into_bytes(),
            want(422, "Invalid", "spec", "pod updates may not change fields other than")),
        ("a Service's cluster IP", "PATCH", named(SERVICES, "web"), MERGE,
            json!({"spec": {"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}}).to_string().into_bytes(),
            want(422, "Invalid", "spec.clusterIPs[0]", "may not change once set")),
        ("a node port out of range", "POST", SERVICES.into(), JSON,
            with(manifests::service("other"), "/spec/ports/0/nodePort", json!(80)),
            want(422, "Invalid", "spec.ports[0].nodePort", "provided port is not in the valid range")),
        ("a stale resourceVersion", "PUT", named(CONFIG_MAPS, "there"), JSON,
            with(config_map("there"), "/metadata/resourceVersion", json!("1")),
            want(409, "Conflict", "", "the object has been modified; please apply your changes to the latest version and try again")),
        ("a name that is too long", "POST", CONFIG_MAPS.into(), JSON, config_map(&"a".repeat(254)).to_string().into_bytes(),
            want(422, "Invalid", "metadata.name", "must be no more than 253")),
        ("a Service name that is too long", "POST", SERVICES.into(), JSON,
            with(service(), "/metadata/name", json!("a".repeat(64))),
            want(422, "Invalid", "metadata.name", "must be no more than 63")),
        ("a name with forbidden letters", "POST", CONFIG_MAPS.into(), JSON, config_map("Bad_Name").to_string().into_bytes(),
            want(422, "Invalid", "metadata.name", "a lowercase RFC 1123 subdomain must consist of")),
        ("no name", "POST", CONFIG_MAPS.into(), JSON, with(config_map("x"), "/metadata/name", Value::Null),
            want(422, "Invalid", "metadata.name", "name or generateName is required")),
        ("a label with forbidden letters", "POST", CONFIG_MAPS.into(), JSON,
            with(config_map("labels"), "/metadata/labels", json!({"a": "not ok!"})),
            want(422, "Invalid", "metadata.labels", "a valid label must be an empty string or consist of")),
        ("another namespace than the path's", "POST", CONFIG_MAPS.into(), JSON,
            with(config_map("x"), "/metadata/namespace", json!("other")),
            want(400, "BadRequest", "", "the namespace of the provided object does not match the namespace sent on the request")),
        ("a namespace that is not there", "POST", "/api/v1/namespaces/nowhere/configmaps".into(), JSON,
            config_map("x").to_string().into_bytes(),
            want(404, "NotFound", "", r#"namespaces "nowhere" not found"#)),
        ("the same name again", "POST", CONFIG_MAPS.into(), JSON, config_map("there").to_string().into_bytes(),
            want(409, "AlreadyExists", "", r#"configmaps "there" already exists"#)),
        ("YAML that is a list", "POST", CONFIG_MAPS.into(), YAML, b"- a\n- b\n".to_vec(),
            want(400, "BadRequest", "", "")),
        ("YAML that is a text", "POST", CONFIG_MAPS.into(), YAML, b"hello\n".to_vec(), want(400, "BadRequest", "", "")),
        ("YAML that is none", "POST", CONFIG_MAPS.into(), YAML, b"a: [1, \n  b: }".to_vec(), want(400, "BadRequest", "", "")),
        ("a YAML bomb", "POST", CONFIG_MAPS.into(), YAML, yaml_bomb(), want(400, "BadRequest", "", "")),
        ("JSON that is none", "POST", CONFIG_MAPS.into(), JSON, br#"{"a":"#.to_vec(), want(400, "BadRequest", "", "")),
        ("an empty body", "POST", CONFIG_MAPS.into(), JSON, Vec::new(), want(400, "BadRequest", "", "")),
        ("bytes that are no text", "POST", CONFIG_MAPS.into(), JSON, vec![0xff; 100], want(400, "BadRequest", "", "")),
        ("a body of 10 MB", "POST", CONFIG_MAPS.into(), JSON, large,
            want(413, "RequestEntityTooLarge", "", "limit is 3145728")),
        ("objects nested 10,000 deep", "POST", CONFIG_MAPS.into(), JSON, deep.into_bytes(), want(400, "BadRequest", "", "")),
        ("lists nested 10,000 deep", "POST", CONFIG_MAPS.into(), JSON, deep_list.into_bytes(), want(400, "BadRequest", "", "")),
        ("another kind than the path's", "POST", CONFIG_MAPS.into(), JSON, service().to_string().into_bytes(),
            want(400, "BadRequest", "", "")),
        ("a media type nobody knows", "POST", CONFIG_MAPS.into(), "text/html", b"<p>".to_vec(),
            want(415, "UnsupportedMediaType", "", "")),
        ("a failing JSON patch", "PATCH", named(CONFIG_MAPS, "there"), "application/json-patch+json",
            json!([{"op": "test", "path": "/data/a", "value": "2"}]).to_string().into_bytes(),
            want(422, "Invalid", "", "")),
        ("a patch that is none", "PATCH", named(CONFIG_MAPS, "there"), MERGE, b"[1]".to_vec(), want(400, "BadRequest", "", "")),
        ("an object that is not there", "GET", named(CONFIG_MAPS, "missing"), JSON, Vec::new(),
            want(404, "NotFound", "", r#"configmaps "missing" not found"#)),
        ("a label selector that is none", "GET", format!("{PODS}?labelSelector=a%3D%3D%3Db"), JSON, Vec::new(),
            want(400, "BadRequest", "", "")),
        ("a field selector nobody knows", "GET", format!("{PODS}?fieldSelector=spec.colour%3Dred"), JSON, Vec::new(),
            want(400, "BadRequest", "", "field label not supported: spec.colour")),
        ("a continue token that is none", "GET", format!("{PODS}?limit=1&continue=nonsense"), JSON, Vec::new(),
            want(400, "BadRequest", "", "continue key is not valid")),
        ("a resourceVersion that is none", "GET", format!("{PODS}?resourceVersion=abc"), JSON, Vec::new(),
            want(400, "BadRequest", "", "")),
        ("a method that is not allowed", "PUT", PODS.into(), JSON, pod().to_string().into_bytes(),
            want(405, "MethodNotAllowed", "", "the server does not allow this method on the requested resource")),
    ];
    let mut cases = Cases::new();
    for (name, method, path, content_type, body, want) in &rows {
        cases.case(name, || check(&api.send(method, path, content_type, body), want));
    }
    cases.case("no certificate", || {
        check(
            &Api::anonymous(&cluster).get(PODS),
            &want(
                403,
                "Forbidden",
                "",
                "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
            ),
        );
    });
    cases.case("a kind that is not there", || {
        let path = "/apis/apps/v1/namespaces/default/nothings";
        assert_eq!(api.get(path).code, 404);
        let said = cluster.kubectl().line(&format!("get --raw {path}")).refused();
        assert!(
            said.contains("(NotFound): the server could not find the requested resource"),
            "{said}"
        );
    });
    cases.case("kubectl apply --validate=strict names the field", || {
        for kubectl in &cluster.kubectls {
            let new = manifests::web("strict", 1);
            let body = String::from_utf8(with(new, "/spec/replicaz", json!(1))).expect("JSON is text");
            let said = kubectl
                .run(&["apply", "--validate=strict", "-f", "-"], &body)
                .refused();
            let unknown = r#"strict decoding error: unknown field "spec.replicaz""#;
            assert!(
                said.contains("BadRequest") && said.contains(unknown),
                "{}: {said}",
                kubectl.version
            );
        }
    });
    cases.case("the server lives, and nothing bad was stored", || {
        assert_eq!(api.get("/livez").code, 200);
        let list = api.get(CONFIG_MAPS).json();
        let names: Vec<&str> = list["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter_map(|item| item["metadata"]["name"].as_str())
            .filter(|name| *name != "kube-root-ca.crt")
            .collect();
        assert_eq!(names, ["there"]);
        let log = std::fs::read(cluster.dir().join("server-0.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        assert!(!log.contains("panicked at"), "the server panicked: {log}");
    });
    cases.finish();
}

/// Ten levels of ten references each: ten thousand million nodes if somebody expands them.
fn yaml_bomb() -> Vec<u8> {
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..=10 {
        let references = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{references}]\n"));
    }
    text.into_bytes()
}
