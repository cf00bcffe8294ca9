//! What the host gives: the authorizer, objects of its own, the types that mutations are made of.

mod common;

use std::sync::{Arc, Mutex};

use common::show;
use corten_cel::{
    Authorize, Bindings, Check, Decision, Decl, Env, Eval, Fields, Limits, Map, Opaque, Subject, Type, Value,
};
use serde_json::json;

/// Allows what is asked about `pods`, and keeps what it was asked.
#[derive(Default)]
struct Host(Mutex<Vec<(Check, String)>>);

impl Authorize for Host {
    fn authorize(&self, check: &Check, verb: &str) -> Decision {
        self.0.lock().unwrap().push((check.clone(), verb.to_owned()));
        Decision {
            allowed: check.resource == "pods" || check.path == "/healthz",
            reason: format!("{} is known", check.resource),
            error: (check.resource == "bad").then(|| "no answer".to_owned()),
        }
    }
}

const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";

fn env() -> Env {
    let host = |name| Arc::new(Decl::of(Type::Opaque(name)));
    Env::new([("authorizer", host(AUTHORIZER))])
        .with(
            "authorizer.requestResource",
            host("kubernetes.authorization.ResourceCheck"),
        )
        .with("variables", Arc::new(Decl::DYN))
        .with_constructors()
}

#[derive(Debug)]
struct Variables;

impl Fields for Variables {
    fn field(&self, name: &str) -> Option<Eval<Value<'_>>> {
        match name {
            "n" => Some(Ok(Value::Int(3))),
            "broken" => Some(Err(corten_cel::EvalError::new("this variable is broken"))),
            _ => None,
        }
    }
}

fn run(host: &Host, expression: &str) -> String {
    let program = match env().compile(expression) {
        Ok(program) => program,
        Err(error) => return error.to_string(),
    };
    let own = Check {
        resource: "pods".into(),
        name: "web".into(),
        ..Check::default()
    };
    let bindings = Bindings::new(vec![
        Some(Value::Opaque(Opaque::Authorizer(
            host,
            Arc::new(Subject::Requester),
        ))),
        Some(Value::Opaque(Opaque::ResourceCheck(host, Arc::new(own)))),
        Some(Value::Map(Map::Host(&Variables))),
    ]);
    let (value, _) = program.eval(&bindings, Limits::default());
    show(value)
}

#[track_caller]
fn check(expression: &str, wanted: &str) {
    assert_eq!(run(&Host::default(), expression), wanted, "{expression}");
}

#[test]
fn authorization() {
    for (expression, wanted) in [
        (
            "authorizer.group('').resource('pods').check('get').allowed()",
            "true",
        ),
        (
            "authorizer.group('').resource('nodes').check('get').allowed()",
            "false",
        ),
        (
            "authorizer.group('').resource('pods').check('get').reason()",
            "\"pods is known\"",
        ),
        (
            "authorizer.group('').resource('bad').check('get').errored()",
            "true",
        ),
        (
            "authorizer.group('').resource('bad').check('get').error()",
            "\"no answer\"",
        ),
        ("authorizer.path('/healthz').check('get').allowed()", "true"),
        (
            "authorizer.path(' ').check('get').allowed()",
            "error: path must not be empty",
        ),
        (
            "authorizer.group('').resource('').check('get')",
            "error: resource must not be empty",
        ),
        (
            "authorizer.serviceAccount('ns', 'A b').path('/x').check('get').allowed()",
            "error: Invalid service account name",
        ),
        ("authorizer.requestResource.check('update').allowed()", "true"),
        // Two checks are the most that an expression may make.
        (
            "[1, 2, 3].all(i, authorizer.requestResource.check('get').allowed())",
            "error: operation cancelled: actual cost limit exceeded",
        ),
    ] {
        check(expression, wanted);
    }
    let host = Host::default();
    run(
        &host,
        "authorizer.serviceAccount('ns', 'robot').group('apps').resource('deployments').subresource('scale')
            .namespace('n').name('web').fieldSelector('a=b').labelSelector('c').check('patch').allowed()",
    );
    let asked = host.0.lock().unwrap();
    let want = Check {
        subject: Subject::ServiceAccount {
            namespace: "ns".into(),
            name: "robot".into(),
        },
        path: String::new(),
        group: "apps".into(),
        resource: "deployments".into(),
        subresource: "scale".into(),
        namespace: "n".into(),
        name: "web".into(),
        field_selector: "a=b".into(),
        label_selector: "c".into(),
    };
    assert_eq!(*asked, [(want, "patch".to_owned())]);
}

#[test]
fn objects_of_the_host() {
    check("variables.n + 1", "4");
    check("variables.broken", "error: this variable is broken");
    check("variables.broken == 1 || variables.n == 3", "true");
    check("variables.missing", "error: no such key: missing");
    check("has(variables.n) && !has(variables.missing)", "true");
}

#[test]
fn mutations() {
    check(
        "Object{spec: Object.spec{replicas: 3, ?paused: optional.none()}}",
        "{\"spec\":{\"replicas\":3}}",
    );
    check(
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: {'x': [1]}}]",
        "[{\"op\":\"add\",\"path\":\"/metadata/labels/a~1b\",\"value\":{\"x\":[1]}}]",
    );
    check("Object{spec: Object.spec{}}.spec == Object.spec{}", "true");
    check("type(Object{}) == type(Object.spec{})", "false");
    check(
        "JSONPatch{operation: 'add'}",
        "ERROR: <input>:1:20: undefined field 'operation'\n | JSONPatch{operation: 'add'}\n | ...................^",
    );
    check(
        "JSONPatch{op: 1}",
        "ERROR: <input>:1:13: expected type of field 'op' is 'string' but provided type is 'int'\n | JSONPatch{op: 1}\n | ............^",
    );
    check(
        "Pod{}",
        "ERROR: <input>:1:4: undeclared reference to 'Pod' (in container '')\n | Pod{}\n | ...^",
    );
    let plain = Env::new([("x", Arc::new(Decl::DYN))]).compile("Object{}");
    assert!(
        plain
            .unwrap_err()
            .to_string()
            .contains("undeclared reference to 'Object'")
    );
}

/// A field that is no JSON of its declared type has no value.
#[test]
fn data_that_does_not_fit() {
    let env = Env::new([("n", Arc::new(Decl::of(Type::list(Type::Int))))]);
    let program = env.compile("n[1] == 2 || n[0] == 1").unwrap();
    let (json, decl) = (json!(["x", 2]), Decl::of(Type::list(Type::Int)));
    let bound = |json| Bindings::new(vec![Some(Value::from_json(json, &decl).unwrap())]);
    assert_eq!(show(program.eval(&bound(&json), Limits::default()).0), "true");
    let json = json!(["x", 3]);
    let shown = show(program.eval(&bound(&json), Limits::default()).0);
    assert_eq!(shown, "error: invalid data, expected an integer");
}
