//! Who may do what: identities by resources and sub-resources, on the default Roles and on written ones.

mod common;

use common::World;
use corten_api::registry;
use corten_apiserver::User;
use corten_apiserver::authorize::Attributes;
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

fn node(name: &str) -> User {
    User::new(format!("system:node:{name}"), &["system:nodes"])
}

fn account(namespace: &str, name: &str) -> User {
    let groups = [
        "system:serviceaccounts",
        &format!("system:serviceaccounts:{namespace}"),
    ];
    User::new(format!("system:serviceaccount:{namespace}:{name}"), &groups)
}

async fn made(world: &World, path: &str, object: Value) {
    let got = world.post(path, &object).await;
    assert_eq!(got.code, 201, "{path} {}", got.text);
}

async fn bind(world: &World, name: &str, namespace: &str, role: (&str, &str), subject: Value) {
    let path = match namespace {
        "" => format!("{RBAC}/clusterrolebindings"),
        namespace => format!("{RBAC}/namespaces/{namespace}/rolebindings"),
    };
    let object = json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
        "subjects": [subject],
    });
    made(world, &path, object).await;
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"})
}

/// Every resource and sub-resource: group, plural, sub-resource (or nothing), whether it lies in namespaces.
fn resources() -> Vec<(String, String, String, bool)> {
    let mut all = Vec::new();
    for ty in registry().all() {
        let of = |sub: &str| {
            (
                ty.group.to_string(),
                ty.plural.to_string(),
                sub.to_owned(),
                ty.namespaced,
            )
        };
        all.push(of(""));
        all.extend(ty.subresources.iter().map(|sub| of(sub.name)));
    }
    all.sort();
    all.dedup();
    all
}

/// What an identity may do, as `verbs group/resource[/sub]`, in the namespace `default` or at the cluster scope.
fn allowed(world: &World, user: &User) -> Vec<String> {
    let mut lines = Vec::new();
    for (group, resource, sub, namespaced) in resources() {
        let may = |verb: &&&str| {
            let asked = Attributes {
                subresource: &sub,
                namespace: if namespaced { "default" } else { "" },
                name: if matches!(**verb, "list" | "watch" | "create" | "deletecollection") && sub.is_empty()
                {
                    ""
                } else {
                    "x"
                },
                ..Attributes::resource(user, verb, &group, &resource)
            };
            world.server.authorize_now(&asked).allowed()
        };
        let verbs: Vec<&str> = VERBS.iter().filter(may).copied().collect();
        if !verbs.is_empty() {
            let slash = if sub.is_empty() { "" } else { "/" };
            lines.push(format!("{} {group}/{resource}{slash}{sub}", verbs.join(",")));
        }
    }
    lines
}

#[tokio::test]
async fn the_default_roles_give_each_identity_what_it_needs_and_no_more() {
    let world = World::new().await;
    let own = [
        "create authentication.k8s.io/selfsubjectreviews",
        "create authorization.k8s.io/selfsubjectaccessreviews",
        "create authorization.k8s.io/selfsubjectrulesreviews",
    ];
    assert_eq!(allowed(&world, &User::anonymous()), [""; 0]);
    assert_eq!(allowed(&world, &User::new("jane", &["dev"])), own);
    assert_eq!(allowed(&world, &account("default", "default")), own);
    let everything = allowed(&world, &User::new("root", &["system:masters"]));
    assert_eq!(everything.len(), resources().len());
    assert!(everything.iter().all(|line| line.starts_with(&VERBS.join(","))));
    // A node: what is not its own is not there, whatever the verb.
    let of_node = allowed(&world, &node("n"));
    let nodes = "get,list,watch,create,update,patch /nodes"; // the reads by the role of kube-proxy
    assert!(of_node.contains(&nodes.to_owned()), "{of_node:#?}");
    for refused in [
        "/secrets",
        "/configmaps",
        "/persistentvolumeclaims",
        "/persistentvolumes",
        "/serviceaccounts",
        "/serviceaccounts/token",
    ] {
        assert!(
            !of_node.iter().any(|line| line.ends_with(&format!(" {refused}"))),
            "{refused} {of_node:#?}"
        );
    }
    let scheduler = allowed(&world, &User::new("system:kube-scheduler", &[]));
    for line in [
        "get,list,watch /nodes",
        "get,list,watch,delete /pods",
        "create /pods/binding",
        "update,patch /pods/status",
    ] {
        assert!(scheduler.contains(&line.to_owned()), "{line} {scheduler:#?}");
    }
    assert!(!scheduler.iter().any(|line| line.ends_with(" /secrets")));
    let replicas = allowed(&world, &account("kube-system", "replicaset-controller"));
    for line in [
        "list,watch,create,patch,delete /pods",
        "get,list,watch,update apps/replicasets",
        "update apps/replicasets/status",
    ] {
        assert!(replicas.contains(&line.to_owned()), "{line} {replicas:#?}");
    }
    // The same name in another namespace is somebody else.
    assert_eq!(allowed(&world, &account("default", "replicaset-controller")), own);
}

/// One request by one identity; the answer's code, and its text where it is refused.
async fn ask(world: &World, user: &User, method: &str, path: &str, want: (u16, &str)) {
    let json = &[("content-type", "application/json")];
    let got = world.by(user.clone()).ask(method, path, json, "{}").await;
    let text = if got.code == 403 {
        got.json()["message"].as_str().unwrap_or_default().to_owned()
    } else {
        String::new()
    };
    assert_eq!(
        (got.code, text.as_str()),
        want,
        "{} {method} {path} {}",
        user.name,
        got.text
    );
}

#[tokio::test]
async fn refusals_have_upstreams_texts() {
    let world = World::new().await;
    let (jane, nobody) = (User::new("jane", &["dev"]), User::anonymous());
    for (user, method, path, want) in [
        (
            &jane,
            "GET",
            "/api/v1/namespaces/a/pods/p/log",
            (
                403,
                "pods \"p\" is forbidden: User \"jane\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"a\"",
            ),
        ),
        (
            &jane,
            "GET",
            "/apis/apps/v1/deployments",
            (
                403,
                "deployments.apps is forbidden: User \"jane\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope",
            ),
        ),
        (
            &jane,
            "GET",
            "/api/v1/namespaces/a",
            (
                403,
                "namespaces \"a\" is forbidden: User \"jane\" cannot get resource \"namespaces\" in API group \"\" in the namespace \"a\"",
            ),
        ),
        (
            &jane,
            "GET",
            "/api/v1/namespaces/a/pods/p/exec?command=sh",
            (
                403,
                "pods \"p\" is forbidden: User \"jane\" cannot create resource \"pods/exec\" in API group \"\" in the namespace \"a\"",
            ),
        ),
        (
            &jane,
            "GET",
            "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3Dn",
            (
                403,
                "nodes \"n\" is forbidden: User \"jane\" cannot watch resource \"nodes\" in API group \"\" at the cluster scope",
            ),
        ),
        (
            &jane,
            "DELETE",
            "/api/v1/namespaces/a/pods",
            (
                403,
                "pods is forbidden: User \"jane\" cannot deletecollection resource \"pods\" in API group \"\" in the namespace \"a\"",
            ),
        ),
        (
            &jane,
            "GET",
            "/metrics",
            (403, "forbidden: User \"jane\" cannot get path \"/metrics\""),
        ),
        (
            &jane,
            "GET",
            "/no/such/path",
            (403, "forbidden: User \"jane\" cannot get path \"/no/such/path\""),
        ),
        (
            &jane,
            "GET",
            "/apis/no.such/v1/things",
            (
                403,
                "things.no.such is forbidden: User \"jane\" cannot list resource \"things\" in API group \"no.such\" at the cluster scope",
            ),
        ),
        (
            &jane,
            "GET",
            "/livez/ping",
            (403, "forbidden: User \"jane\" cannot get path \"/livez/ping\""),
        ),
        (&jane, "GET", "/livez", (200, "")),
        (&jane, "GET", "/apis", (200, "")),
        (&nobody, "GET", "/healthz", (200, "")),
        (&nobody, "GET", "/version", (200, "")),
        (
            &nobody,
            "GET",
            "/apis",
            (
                403,
                "forbidden: User \"system:anonymous\" cannot get path \"/apis\"",
            ),
        ),
        (
            &nobody,
            "GET",
            "/api/v1/pods",
            (
                403,
                "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope",
            ),
        ),
        (
            &nobody,
            "GET",
            "/no/such/path",
            (
                403,
                "forbidden: User \"system:anonymous\" cannot get path \"/no/such/path\"",
            ),
        ),
    ] {
        ask(&world, user, method, path, want).await;
    }
    let bad = world.by_credentials();
    let got = bad
        .ask("GET", "/livez", &[("authorization", "Bearer x.y.z")], "")
        .await;
    assert_eq!(got.code, 401, "bad credentials are never taken for none");
}

#[tokio::test]
async fn what_is_written_holds_for_the_next_request() {
    let world = World::new().await;
    let jane = User::new("jane", &[]);
    let pods = "/api/v1/namespaces/default/pods";
    let rule = json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}]);
    for round in 0..20 {
        let name = format!("r{round}");
        assert_eq!(world.by(jane.clone()).get(pods).await.code, 403);
        made(
            &world,
            &format!("{RBAC}/namespaces/default/roles"),
            json!({"metadata": {"name": name}, "rules": rule}),
        )
        .await;
        bind(&world, &name, "default", ("Role", &name), user("jane")).await;
        assert_eq!(
            world.by(jane.clone()).get(pods).await.code,
            200,
            "{round}: granted"
        );
        let gone = match round % 2 {
            0 => format!("{RBAC}/namespaces/default/rolebindings/{name}"),
            _ => format!("{RBAC}/namespaces/default/roles/{name}"),
        };
        assert_eq!(world.delete(&gone, &json!({})).await.code, 200);
        let got = world.by(jane.clone()).get(pods).await;
        assert_eq!(got.code, 403, "{round}: taken away");
        if round == 1 {
            assert!(
                got.text.contains("in the namespace \\\"default\\\": RBAC: role.rbac.authorization.k8s.io \\\"r1\\\" not found"),
                "{}",
                got.text
            );
        }
        if round % 2 == 1 {
            let binding = format!("{RBAC}/namespaces/default/rolebindings/{name}");
            assert_eq!(world.delete(&binding, &json!({})).await.code, 200);
        }
    }
}

#[tokio::test]
async fn impersonation_is_a_permission_like_others() {
    let world = World::new().await;
    let rules = json!([
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["joe"]},
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"]},
        {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"], "resources": ["userextras/scopes"]},
    ]);
    made(
        &world,
        &format!("{RBAC}/clusterroles"),
        json!({"metadata": {"name": "actor"}, "rules": rules}),
    )
    .await;
    bind(&world, "actor", "", ("ClusterRole", "actor"), user("jane")).await;
    let jane = world.by(User::new("jane", &[]));
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    for (headers, code, text) in [
        (&[("impersonate-user", "joe")][..], 201, "\"username\":\"joe\""),
        (
            &[
                ("impersonate-user", "joe"),
                ("impersonate-group", "dev"),
                ("impersonate-extra-scopes", "x"),
            ],
            201,
            "\"scopes\":[\"x\"]",
        ),
        (
            &[("impersonate-user", "root")],
            403,
            "users \\\"root\\\" is forbidden: User \\\"jane\\\" cannot impersonate resource \\\"users\\\" in API group \\\"\\\" at the cluster scope",
        ),
        (
            &[
                ("impersonate-user", "joe"),
                ("impersonate-group", "system:masters"),
            ],
            403,
            "groups \\\"system:masters\\\" is forbidden: User \\\"jane\\\" cannot impersonate resource \\\"groups\\\"",
        ),
        (
            &[("impersonate-user", "joe"), ("impersonate-extra-other", "x")],
            403,
            "cannot impersonate resource \\\"userextras/other\\\" in API group \\\"authentication.k8s.io\\\"",
        ),
        (
            &[("impersonate-user", "joe"), ("impersonate-uid", "7")],
            403,
            "cannot impersonate resource \\\"uids\\\"",
        ),
        (
            &[("impersonate-user", "system:serviceaccount:a:b")],
            403,
            "serviceaccounts \\\"b\\\" is forbidden: User \\\"jane\\\" cannot impersonate resource \\\"serviceaccounts\\\" in API group \\\"\\\" in the namespace \\\"a\\\"",
        ),
    ] {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let got = jane.ask("POST", whoami, &all, "{}").await;
        assert_eq!(got.code, code, "{headers:?} {}", got.text);
        assert!(got.text.contains(text), "{headers:?} {}", got.text);
    }
}

/// KEP-5284: who may act as another user only for some of what that one may do.
#[tokio::test]
async fn constrained_impersonation_asks_also_for_what_is_done() {
    let world = World::new().await;
    let rules = json!([
        {"verbs": ["impersonate:user-info"], "apiGroups": ["authentication.k8s.io"], "resources": ["users"], "resourceNames": ["joe"]},
        {"verbs": ["impersonate:arbitrary-node"], "apiGroups": ["authentication.k8s.io"], "resources": ["nodes"]},
        {"verbs": ["impersonate-on:user-info:create", "impersonate-on:arbitrary-node:create"],
            "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
    ]);
    let role = json!({"metadata": {"name": "actor"}, "rules": rules});
    made(&world, &format!("{RBAC}/clusterroles"), role).await;
    bind(&world, "actor", "", ("ClusterRole", "actor"), user("jane")).await;
    bind(&world, "all", "", ("ClusterRole", "cluster-admin"), user("joe")).await;
    let jane = world.by(User::new("jane", &[]));
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let asked = async |who: &str, path: &str| {
        let headers = [("content-type", "application/json"), ("impersonate-user", who)];
        let method = if path == whoami { "POST" } else { "GET" };
        let got = jane.ask(method, path, &headers, "{}").await;
        (got.code, got.text)
    };
    let (code, text) = asked("joe", whoami).await;
    assert!(code == 201 && text.contains("\"username\":\"joe\""), "{text}");
    let (code, text) = asked("system:node:n", whoami).await;
    let groups = "\"groups\":[\"system:nodes\",\"system:authenticated\"]";
    assert!(code == 201 && text.contains(groups), "{text}");
    for (who, path, want) in [
        // What joe may do, jane may not do as joe.
        (
            "joe",
            "/api/v1/secrets",
            "cannot impersonate-on:user-info:list resource \\\"secrets\\\"",
        ),
        (
            "root",
            whoami,
            "users.authentication.k8s.io \\\"root\\\" is forbidden: User \\\"jane\\\" cannot impersonate:user-info",
        ),
        ("system:serviceaccount:a:b", whoami, "cannot impersonate"),
    ] {
        let (code, text) = asked(who, path).await;
        assert!(code == 403 && text.contains(want), "{who} {path}: {text}");
    }
}

#[tokio::test]
async fn reviews_say_why() {
    let world = World::new().await;
    bind(
        &world,
        "b",
        "default",
        ("ClusterRole", "cluster-admin"),
        user("jane"),
    )
    .await;
    let review = |namespace: &str| json!({"spec": {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": namespace}}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let got = world.post(path, &review("default")).await.json();
    assert_eq!(
        got["status"],
        json!({"allowed": true, "reason": "RBAC: allowed by RoleBinding \"b/default\" of ClusterRole \"cluster-admin\" to User \"jane\""})
    );
    let got = world.post(path, &review("kube-system")).await.json();
    assert_eq!(got["status"], json!({"allowed": false}));
    // A node's permissions depend on its Pods.
    let mut own = world
        .by(node("n"))
        .post(
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            &json!({"spec": {"namespace": "a"}}),
        )
        .await
        .json();
    assert_eq!(own["status"]["incomplete"], true);
    assert_eq!(
        own["status"]["evaluationError"].take(),
        "node authorizer does not support user rule resolution"
    );
}

/// A Pod that a node was given, with a Secret it refers to.
async fn pod_on(world: &World, name: &str, node: &str) {
    let spec = json!({
        "nodeName": node,
        "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": format!("of-{name}")}}]}],
    });
    made(
        world,
        "/api/v1/namespaces/default/pods",
        json!({"metadata": {"name": name}, "spec": spec}),
    )
    .await;
    let secret = json!({"metadata": {"name": format!("of-{name}")}});
    made(world, "/api/v1/namespaces/default/secrets", secret).await;
}

#[tokio::test]
async fn a_node_reads_what_is_its_own() {
    let world = World::new().await;
    made(
        &world,
        "/api/v1/namespaces/default/serviceaccounts",
        json!({"metadata": {"name": "lone"}}),
    )
    .await;
    pod_on(&world, "p", "n").await;
    pod_on(&world, "q", "m").await;
    let n = world.by(node("n"));
    let core = "/api/v1/namespaces/default";
    let no = "no relationship found between node 'n' and this object";
    for (path, code, text) in [
        (format!("{core}/secrets/of-p"), 200, ""),
        (
            format!("{core}/secrets?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Dof-p"),
            200,
            "",
        ),
        (format!("{core}/secrets/of-q"), 403, no),
        (format!("{core}/secrets"), 403, "No Object name found"),
        (
            "/api/v1/secrets".into(),
            403,
            "can only read namespaced object of this type",
        ),
        (format!("{core}/configmaps/x"), 403, no),
        (format!("{core}/serviceaccounts/default"), 200, ""),
        (format!("{core}/serviceaccounts/lone"), 403, no),
        (format!("{core}/pods/p"), 200, ""),
        (format!("{core}/pods/q"), 403, no),
        (
            format!("{core}/pods"),
            403,
            "can only list/watch pods with spec.nodeName field selector",
        ),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn".into(), 200, ""),
        (
            "/api/v1/pods?fieldSelector=spec.nodeName%3Dm".into(),
            403,
            "can only list/watch pods with spec.nodeName field selector",
        ),
        (
            "/api/v1/pods?fieldSelector=spec.nodeName%21%3Dn".into(),
            403,
            "can only list/watch pods with spec.nodeName field selector",
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n".into(),
            404,
            "",
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/m".into(),
            403,
            "can only access node lease with the same name as the requesting node",
        ),
        (
            "/apis/coordination.k8s.io/v1/namespaces/default/leases/n".into(),
            403,
            "can only access leases in the \\\"kube-node-lease\\\" system namespace",
        ),
        (
            "/apis/storage.k8s.io/v1/csinodes/m".into(),
            403,
            "can only access CSINode with the same name as the requesting node",
        ),
        (
            "/apis/resource.k8s.io/v1/resourceslices".into(),
            403,
            "can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        (
            "/apis/resource.k8s.io/v1/resourceslices?fieldSelector=spec.nodeName%3Dn".into(),
            200,
            "",
        ),
    ] {
        let got = n.get(&path).await;
        assert_eq!(got.code, code, "{path} {}", got.text);
        assert!(got.text.contains(text), "{path} {}", got.text);
    }
    // What the node was told by its watch a moment ago is open to it at once, and closed when the Pod is gone.
    for round in 0..10 {
        let name = format!("new{round}");
        pod_on(&world, &name, "n").await;
        assert_eq!(n.get(&format!("{core}/secrets/of-{name}")).await.code, 200);
    }
    let gone = world
        .delete(&format!("{core}/pods/p"), &json!({"gracePeriodSeconds": 0}))
        .await;
    assert_eq!(gone.code, 200, "{}", gone.text);
    assert_eq!(
        world
            .by(node("m"))
            .get(&format!("{core}/secrets/of-p"))
            .await
            .code,
        403
    );
    assert_eq!(n.get(&format!("{core}/secrets/of-p")).await.code, 403);
}
