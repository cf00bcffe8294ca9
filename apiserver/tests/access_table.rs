//! Every route of discovery by every kind of identity: the server's answers beside those of a naive reader of the stored
//! Roles; and random graphs of Pods, in which no node may touch what is not its own.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::World;
use corten_apiserver::User;
use corten_apiserver::authorize::Attributes;
use futures::StreamExt;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

/// Requests in flight.
const AT_ONCE: usize = 64;
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A question, as the test understands a request.
#[derive(Debug, Clone, Default)]
struct Asked {
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    /// Of what is no resource.
    path: String,
}

impl Asked {
    fn by<'a>(&'a self, user: &'a User) -> Attributes<'a> {
        if !self.path.is_empty() {
            return Attributes::path(user, &self.verb, &self.path);
        }
        Attributes {
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            ..Attributes::resource(user, &self.verb, &self.group, &self.resource)
        }
    }

    /// What upstream says to whom nobody allows it.
    fn refusal(&self, user: &User) -> String {
        let who = format!("User {:?} cannot {} ", user.name, self.verb);
        if !self.path.is_empty() {
            return format!("{who}path {:?}", self.path);
        }
        let slash = if self.subresource.is_empty() { "" } else { "/" };
        let resource = format!("{}{slash}{}", self.resource, self.subresource);
        let place = match &*self.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!("{who}resource {resource:?} in API group {:?} {place}", self.group)
    }
}

/// The Roles and bindings as stored.
struct Policy {
    roles: Vec<Value>,
    bindings: Vec<Value>,
}

fn words<'a>(value: &'a Value, field: &str) -> Vec<&'a str> {
    let list = value[field].as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

impl Policy {
    async fn read(world: &World) -> Policy {
        let all = |plural: &'static str| async move {
            let mut list = world.get(&format!("{RBAC}/{plural}")).await.json();
            match list["items"].take() {
                Value::Array(items) => items,
                other => panic!("{plural}: {other}"),
            }
        };
        let (mut roles, mut bindings) = (all("clusterroles").await, all("clusterrolebindings").await);
        roles.extend(all("roles").await);
        bindings.extend(all("rolebindings").await);
        Policy { roles, bindings }
    }

    /// What the bindings that name a user give: a namespace (empty: everywhere), and rules.
    fn of(&self, user: &User) -> Given<'_> {
        let mut given = Vec::new();
        for binding in &self.bindings {
            let subjects = binding["subjects"].as_array().into_iter().flatten();
            if !subjects.into_iter().any(|subject| is(subject, user)) {
                continue;
            }
            let namespace = binding["metadata"]["namespace"].as_str().unwrap_or_default();
            let reference = &binding["roleRef"];
            let of = if reference["kind"] == "ClusterRole" {
                ""
            } else {
                namespace
            };
            let role = self.roles.iter().find(|role| {
                role["metadata"]["name"] == reference["name"]
                    && role["metadata"]["namespace"].as_str().unwrap_or_default() == of
            });
            if let Some(rules) = role.and_then(|role| role["rules"].as_array()) {
                given.push((namespace, rules.as_slice()));
            }
        }
        Given(given)
    }

    /// Whoever a binding names.
    fn identities(&self) -> Vec<User> {
        let mut all = BTreeMap::new();
        for binding in &self.bindings {
            for subject in binding["subjects"].as_array().into_iter().flatten() {
                let name = subject["name"].as_str().unwrap_or_default();
                let user = match subject["kind"].as_str() {
                    Some("User") => User::new(name, &["system:authenticated"]),
                    Some("ServiceAccount") => {
                        account(subject["namespace"].as_str().unwrap_or_default(), name)
                    }
                    // Who is a master is asked before any rule.
                    _ if name == "system:masters" => continue,
                    _ => User::new(format!("one-of-{name}"), &[name]),
                };
                all.insert(user.name.clone(), user);
            }
        }
        all.into_values().collect()
    }
}

struct Given<'a>(Vec<(&'a str, &'a [Value])>);

impl Given<'_> {
    /// Rule by rule, as RBAC's documentation reads.
    fn allows(&self, asked: &Asked) -> bool {
        self.0.iter().any(|(namespace, rules)| {
            let holds = namespace.is_empty() || (*namespace == asked.namespace && asked.path.is_empty());
            holds && rules.iter().any(|rule| grants(rule, asked))
        })
    }
}

fn is(subject: &Value, user: &User) -> bool {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("User") => user.name == name,
        Some("Group") => user.groups.iter().any(|group| group == name),
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or_default();
            user.name == format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => false,
    }
}

fn grants(rule: &Value, asked: &Asked) -> bool {
    let has = |field: &str, word: &str| words(rule, field).iter().any(|own| *own == "*" || *own == word);
    if !has("verbs", &asked.verb) {
        return false;
    }
    if !asked.path.is_empty() {
        let fits = |url: &&str| match url.strip_suffix('*') {
            Some(start) => asked.path.starts_with(start),
            None => *url == asked.path,
        };
        return words(rule, "nonResourceURLs").iter().any(fits);
    }
    let (whole, any) = match &*asked.subresource {
        "" => (asked.resource.clone(), asked.resource.clone()),
        sub => (format!("{}/{sub}", asked.resource), format!("*/{sub}")),
    };
    let resources = words(rule, "resources");
    let names = words(rule, "resourceNames");
    has("apiGroups", &asked.group)
        && resources
            .iter()
            .any(|own| *own == "*" || *own == whole || *own == any)
        && (names.is_empty() || names.contains(&&*asked.name))
}

fn account(namespace: &str, name: &str) -> User {
    let own = format!("system:serviceaccounts:{namespace}");
    let groups = ["system:serviceaccounts", &own, "system:authenticated"];
    User::new(format!("system:serviceaccount:{namespace}:{name}"), &groups)
}

fn node(name: &str) -> User {
    User::new(
        format!("system:node:{name}"),
        &["system:nodes", "system:authenticated"],
    )
}

/// One request and what it asks for.
struct Route {
    method: &'static str,
    target: String,
    asked: Asked,
}

/// All that discovery offers, with an object `x` in the namespace `default`, and what is no resource.
async fn routes(world: &World) -> Vec<Route> {
    let mut versions = vec![(String::new(), "/api/v1".to_owned())];
    let groups = world.get("/apis").await.json();
    for group in groups["groups"].as_array().expect("groups") {
        for version in group["versions"].as_array().expect("versions") {
            let name = group["name"].as_str().expect("a name");
            let path = version["groupVersion"].as_str().expect("a version");
            versions.push((name.to_owned(), format!("/apis/{path}")));
        }
    }
    let mut all = Vec::new();
    for (group, base) in versions {
        let found = world.get(&base).await.json();
        for resource in found["resources"].as_array().expect("resources") {
            of_resource(&group, &base, resource, &mut all);
        }
    }
    for path in [
        "/",
        "/api",
        "/apis",
        "/apis/apps",
        "/apis/apps/v1",
        "/healthz",
        "/livez",
        "/livez/ping",
        "/readyz",
        "/version",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/.well-known/openid-configuration",
        "/nowhere",
    ] {
        all.push(Route {
            method: "GET",
            target: path.to_owned(),
            asked: Asked {
                verb: "get".into(),
                path: path.into(),
                ..Asked::default()
            },
        });
    }
    all
}

fn of_resource(group: &str, base: &str, resource: &Value, all: &mut Vec<Route>) {
    let name = resource["name"].as_str().expect("a name");
    let (plural, sub) = name.split_once('/').unwrap_or((name, ""));
    let namespaced = resource["namespaced"] == true;
    let place = if namespaced { "/namespaces/default" } else { "" };
    let many = format!("{base}{place}/{plural}");
    let one = match sub {
        "" => format!("{many}/x"),
        sub => format!("{many}/x/{sub}"),
    };
    for verb in words(resource, "verbs") {
        let collection =
            matches!(verb, "list" | "watch" | "deletecollection") || (verb == "create" && sub.is_empty());
        let path = if collection { &many } else { &one };
        let (method, query) = match verb {
            "get" | "list" => ("GET", ""),
            "watch" => ("GET", "?watch=1&timeoutSeconds=1"),
            "create" => ("POST", "?dryRun=All"),
            "update" => ("PUT", "?dryRun=All"),
            "patch" => ("PATCH", "?dryRun=All"),
            _ => ("DELETE", "?dryRun=All"),
        };
        let asked = Asked {
            // What a GET opens is made: its HTTP method says nothing about what it does.
            verb: match sub {
                "exec" | "attach" | "portforward" => "create".into(),
                _ => verb.into(),
            },
            group: group.into(),
            resource: plural.into(),
            subresource: sub.into(),
            name: if collection { "" } else { "x" }.into(),
            // A Namespace lies in itself.
            namespace: match (namespaced, plural, collection) {
                (true, ..) => "default".into(),
                (false, "namespaces", false) if group.is_empty() => "x".into(),
                _ => String::new(),
            },
            path: String::new(),
        };
        all.push(Route {
            method,
            target: format!("{path}{query}"),
            asked: asked.clone(),
        });
        if namespaced && matches!(verb, "list" | "watch") {
            all.push(Route {
                method,
                target: format!("{base}/{plural}{query}"),
                asked: Asked {
                    namespace: String::new(),
                    ..asked
                },
            });
        }
    }
}

/// Whether the server let the request pass its authorizer.
async fn passes(world: &World, user: &User, route: &Route) -> bool {
    let media = if route.method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let request = Request::builder()
        .method(route.method)
        .uri(&route.target)
        .header("content-type", media)
        .body(Full::new(Bytes::from_static(b"{}")))
        .expect("a request");
    let response = world.send(request).await;
    if response.status() != 403 {
        return true;
    }
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let status: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = status["message"].as_str().unwrap_or_default();
    let refused = route.asked.refusal(user);
    // Admission refuses with 403 too, in other words.
    if message.contains(" cannot ") {
        assert!(
            message.contains(&refused),
            "{} {}: {message}",
            route.method,
            route.target
        );
        return false;
    }
    true
}

async fn bind(world: &World, name: &str, namespace: &str, role: &str, user: &str) {
    let path = match namespace {
        "" => format!("{RBAC}/clusterrolebindings"),
        namespace => format!("{RBAC}/namespaces/{namespace}/rolebindings"),
    };
    let object = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let got = world.post(&path, &object).await;
    assert_eq!(got.code, 201, "{}", got.text);
}

/// With a custom resource, and users with the roles that users are given.
async fn world() -> World {
    let world = World::new().await;
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({ "metadata": { "name": "foos.example.com" }, "spec": { "group": "example.com", "scope": "Namespaced",
        "names": { "plural": "foos", "kind": "Foo", "listKind": "FooList", "singular": "foo" },
        "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema }, "subresources": { "status": {} } }] } });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let got = world.post(path, &definition).await;
    assert_eq!(got.code, 201, "{}", got.text);
    for role in ["view", "edit", "admin"] {
        bind(
            &world,
            &format!("{role}-here"),
            "default",
            role,
            &format!("{role}-here"),
        )
        .await;
        bind(&world, &format!("{role}-all"), "", role, &format!("{role}-all")).await;
    }
    bind(&world, "root", "", "cluster-admin", "root").await;
    world
}

#[tokio::test]
async fn every_route_is_judged_by_what_it_does() {
    let world = world().await;
    let (policy, routes) = (Policy::read(&world).await, routes(&world).await);
    assert!(routes.len() > 600, "{}", routes.len());
    let one = |name: &str| User::new(name, &["system:authenticated"]);
    let bootstrap = User::new(
        "system:bootstrap:abcdef",
        &["system:bootstrappers", "system:authenticated"],
    );
    let (mut yes, mut no) = (0, 0);
    for user in [
        User::anonymous(),
        one("jane"),
        one("edit-here"),
        one("system:kube-scheduler"),
        bootstrap,
        node("n"),
    ] {
        let by = world.by(user.clone());
        let given = policy.of(&user);
        // Side by side: whoever is refused waits for the newest rules, and all can wait at once.
        let answers = futures::stream::iter(&routes).map(|route| {
            let (by, user) = (&by, &user);
            async move { (route, passes(by, user, route).await) }
        });
        let answers: Vec<(&Route, bool)> = answers.buffer_unordered(AT_ONCE).collect().await;
        for (route, got) in answers {
            let want = match user.name.starts_with("system:node:") {
                // What the Node authorizer says is looked at below.
                true => world.server.authorize_now(&route.asked.by(&user)).allowed(),
                false => given.allows(&route.asked),
            };
            assert_eq!(
                got, want,
                "{} {} {}: {:?}",
                user.name, route.method, route.target, route.asked
            );
            if got { yes += 1 } else { no += 1 }
        }
    }
    println!("{} routes, {yes} allowed, {no} refused", routes.len());
    assert!(yes > 200 && no > 4000, "{yes} {no}");
}

#[tokio::test]
async fn every_identity_may_do_what_its_roles_say() {
    let world = world().await;
    let (policy, routes) = (Policy::read(&world).await, routes(&world).await);
    let identities = policy.identities();
    for name in [
        "root",
        "view-all",
        "admin-here",
        "system:kube-controller-manager",
        "one-of-system:bootstrappers",
        "system:serviceaccount:kube-system:deployment-controller",
        "system:serviceaccount:kube-system:generic-garbage-collector",
    ] {
        assert!(identities.iter().any(|user| user.name == name), "{name}");
    }
    let mut granted = BTreeSet::new();
    for user in &identities {
        let given = policy.of(user);
        for route in &routes {
            let verdict = world.server.authorize_now(&route.asked.by(user));
            assert_eq!(
                verdict.allowed(),
                given.allows(&route.asked),
                "{} {:?} {}",
                user.name,
                route.asked,
                verdict.reason
            );
            if verdict.allowed() {
                granted.insert(&user.name);
            }
        }
    }
    println!(
        "{} identities, {} may do something",
        identities.len(),
        granted.len()
    );
    assert!(granted.len() > 40, "{granted:?}");
}

/// Small numbers from a seed.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn maybe(&mut self) -> bool {
        self.below(2) == 0
    }
}

const NODES: [&str; 3] = ["n0", "n1", "n2"];
const KINDS: [&str; 4] = [
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "serviceaccounts",
];
const OBJECTS: usize = 3;
/// Changes made to one graph, and graphs made.
const STEPS: usize = 14;
const GRAPHS: u64 = 3;

/// A Pod of the model: its node, its uid, and what it refers to, by kind and name.
struct Running {
    node: Option<&'static str>,
    uid: String,
    refers: BTreeSet<(&'static str, String)>,
}

/// A Pod with references of every form, and what these are.
fn random_pod(
    choices: &mut Choices,
    name: &str,
    node: Option<&str>,
) -> (Value, BTreeSet<(&'static str, String)>) {
    let mut refers = BTreeSet::new();
    let mut some = |choices: &mut Choices, kind: &'static str| {
        let name = format!("{}{}", &kind[..2], choices.below(OBJECTS));
        refers.insert((kind, name.clone()));
        name
    };
    let account = some(choices, "serviceaccounts");
    let (mut volumes, mut env, mut env_from, mut pulls) = (vec![], vec![], vec![], vec![]);
    for index in 0..choices.below(4) {
        let source = match choices.below(7) {
            0 => json!({ "secret": { "secretName": some(choices, "secrets") } }),
            1 => json!({ "configMap": { "name": some(choices, "configmaps") } }),
            2 => json!({ "persistentVolumeClaim": { "claimName": some(choices, "persistentvolumeclaims") } }),
            3 => json!({ "projected": { "sources": [{ "secret": { "name": some(choices, "secrets") } },
                { "configMap": { "name": some(choices, "configmaps") } }] } }),
            4 => {
                let secret = some(choices, "secrets");
                env.push(json!({ "name": format!("E{index}"), "valueFrom": { "secretKeyRef": { "name": secret, "key": "k" } } }));
                json!({ "emptyDir": {} })
            }
            5 => {
                let map = some(choices, "configmaps");
                env_from.push(json!({ "configMapRef": { "name": map } }));
                json!({ "emptyDir": {} })
            }
            _ => {
                pulls.push(json!({ "name": some(choices, "secrets") }));
                json!({ "emptyDir": {} })
            }
        };
        let mut volume = source;
        volume["name"] = format!("v{index}").into();
        volumes.push(volume);
    }
    // What the node may ask a token for.
    let token = json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } });
    volumes.push(json!({ "name": "token", "projected": { "sources": [token] } }));
    let mut pod = json!({ "metadata": { "name": name }, "spec": { "serviceAccountName": account, "volumes": volumes,
        "automountServiceAccountToken": false, "imagePullSecrets": pulls,
        "containers": [{ "name": "c", "image": "i", "env": env, "envFrom": env_from }] } });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    (pod, refers)
}

#[tokio::test]
async fn a_node_touches_nothing_but_its_own_in_random_graphs() {
    let (mut yes, mut no) = (0, 0);
    for seed in 0..GRAPHS {
        let world = World::new().await;
        let nodes = NODES.map(|name| (name, world.by(node(name))));
        for index in 0..OBJECTS {
            let account = json!({ "metadata": { "name": format!("se{index}") } });
            let got = world
                .post("/api/v1/namespaces/default/serviceaccounts", &account)
                .await;
            assert_eq!(got.code, 201, "{}", got.text);
        }
        let mut choices = Choices(seed.wrapping_mul(7919) + 1);
        let mut pods: BTreeMap<String, Running> = BTreeMap::new();
        for step in 0..STEPS {
            let gone = pods
                .keys()
                .nth(choices.below(8))
                .cloned()
                .filter(|_| choices.maybe());
            if let Some(name) = gone {
                let path = format!("/api/v1/namespaces/default/pods/{name}");
                let got = world.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await;
                assert_eq!(got.code, 200, "{}", got.text);
                pods.remove(&name);
            } else {
                let name = format!("p{step}");
                let on = NODES.get(choices.below(4)).copied();
                let (pod, refers) = random_pod(&mut choices, &name, on);
                let got = world.post("/api/v1/namespaces/default/pods", &pod).await;
                assert_eq!(got.code, 201, "seed {seed}: {}", got.text);
                let uid = got.json()["metadata"]["uid"].as_str().expect("a uid").to_owned();
                pods.insert(
                    name,
                    Running {
                        node: on,
                        uid,
                        refers,
                    },
                );
            }
            for (own, by) in &nodes {
                let (allowed, refused) = check_reads(&world, own, &pods, seed, step).await;
                yes += allowed;
                no += refused;
                if let Some((name, pod)) = pods.iter().nth(choices.below(pods.len().max(1))) {
                    check_writes(by, own, name, pod, seed).await;
                }
            }
        }
    }
    println!("{yes} allowed, {no} refused");
    assert!(yes > 200 && no > 1000, "{yes} {no}");
}

/// What the node may read, of everything there is. Returns how many questions were allowed and refused.
async fn check_reads(
    world: &World,
    own: &str,
    pods: &BTreeMap<String, Running>,
    seed: u64,
    step: usize,
) -> (u64, u64) {
    let user = node(own);
    let (mut yes, mut no) = (0, 0);
    let of = |verb: &str, group: &str, resource: &str, namespace: &str, name: &str| Asked {
        verb: verb.into(),
        group: group.into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..Asked::default()
    };
    let mut questions = Vec::new();
    for kind in KINDS {
        for index in 0..OBJECTS {
            let name = format!("{}{index}", &kind[..2]);
            let mut mine = pods.values().filter(|pod| pod.node == Some(own));
            let refers = mine.any(|pod| pod.refers.contains(&(kind, name.clone())));
            questions.push((of("get", "", kind, "default", &name), refers));
            let lists = matches!(kind, "secrets" | "configmaps") && refers;
            questions.push((of("watch", "", kind, "default", &name), lists));
            questions.push((of("get", "", kind, "kube-system", &name), false));
            questions.push((of("update", "", kind, "default", &name), false));
            questions.push((of("delete", "", kind, "default", &name), false));
        }
        questions.push((of("list", "", kind, "default", ""), false));
        questions.push((of("list", "", kind, "", ""), false));
    }
    for (name, pod) in pods {
        let mine = pod.node == Some(own);
        questions.push((of("get", "", "pods", "default", name), mine));
        questions.push((of("update", "", "pods", "default", name), false));
    }
    for other in NODES {
        let mine = other == own;
        for verb in ["get", "update", "patch", "delete"] {
            questions.push((
                of(verb, "coordination.k8s.io", "leases", "kube-node-lease", other),
                mine,
            ));
            questions.push((of(verb, "coordination.k8s.io", "leases", "default", other), false));
            questions.push((of(verb, "storage.k8s.io", "csinodes", "", other), mine));
        }
        questions.push((of("delete", "", "nodes", "", other), false));
    }
    // The first waits until the server knows the newest state.
    let nothing = of("get", "", "secrets", "default", "nobody-has-this");
    assert!(!world.server.authorize(&nothing.by(&user)).await.allowed());
    for (asked, want) in &questions {
        let got = world.server.authorize_now(&asked.by(&user));
        assert_eq!(
            got.allowed(),
            *want,
            "seed {seed} step {step}: {own} {asked:?} {}",
            got.reason
        );
        if *want { yes += 1 } else { no += 1 }
    }
    (yes, no)
}

/// A node writes the status of its own Pods, and asks for tokens of these alone.
async fn check_writes(by: &World, own: &str, name: &str, pod: &Running, seed: u64) {
    let mine = pod.node == Some(own);
    let path = format!("/api/v1/namespaces/default/pods/{name}/status");
    let status = json!({ "status": { "reason": own } });
    let got = by.patch(&path, "strategic", &status).await;
    assert_eq!(
        got.code,
        if mine { 200 } else { 403 },
        "seed {seed}: {own} {name} {}",
        got.text
    );
    for index in 0..OBJECTS {
        let account = format!("se{index}");
        let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
        let asks = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
            "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod.uid } } });
        let got = by.post(&path, &asks).await;
        let uses = mine && pod.refers.contains(&("serviceaccounts", account.clone()));
        assert_eq!(
            got.code == 201,
            uses,
            "seed {seed}: {own} {name} {account} {}",
            got.text
        );
    }
}
