//! What nobody may do although a rule allows the verb: granting what one has not, and a node's writes beyond its own.

mod common;

use common::{Got, World};
use corten_apiserver::User;
use serde_json::{Value, json};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const CORE: &str = "/api/v1/namespaces/default";

async fn made(world: &World, path: &str, object: Value) -> Value {
    let got = world.post(path, &object).await;
    assert_eq!(got.code, 201, "{path} {}", got.text);
    got.json()
}

fn rule(verbs: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [""], "resources": resources})
}

fn binding(name: &str, role: (&str, &str), user: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    })
}

/// `want`: the code, and for a refusal its whole text.
#[track_caller]
fn check(got: &Got, want: (u16, &str)) {
    let text = match got.code {
        200..300 => String::new(),
        _ => got.json()["message"].as_str().unwrap_or_default().to_owned(),
    };
    assert_eq!((got.code, text.as_str()), want, "{}", got.text);
}

/// Jane writes Roles and bindings, and reads Pods.
async fn with_jane() -> (World, World) {
    let world = World::new().await;
    let kinds = ["roles", "rolebindings", "clusterroles", "clusterrolebindings"];
    let rules = json!([
        {"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": kinds, "resourceNames": []},
        rule(&["get", "list"], &["pods"]),
    ]);
    // Every verb but those that lift the checks.
    let mut rules = rules;
    rules[0]["verbs"] = json!(["get", "list", "create", "update", "patch", "delete"]);
    made(
        &world,
        &format!("{RBAC}/clusterroles"),
        json!({"metadata": {"name": "jane"}, "rules": rules}),
    )
    .await;
    made(
        &world,
        &format!("{RBAC}/clusterrolebindings"),
        binding("jane", ("ClusterRole", "jane"), "jane"),
    )
    .await;
    let jane = world.by(User::new("jane", &["dev"]));
    (world, jane)
}

#[tokio::test]
async fn roles_grant_what_their_writer_has() {
    let (world, jane) = with_jane().await;
    let roles = &format!("{RBAC}/namespaces/default/roles");
    let role = |name: &str, rules: Value| json!({"metadata": {"name": name}, "rules": rules});
    let lacking = "user \"jane\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n";
    check(
        &jane
            .post(roles, &role("own", json!([rule(&["get"], &["pods"])])))
            .await,
        (201, ""),
    );
    let more = json!([rule(&["get", "delete", "watch"], &["pods", "secrets"])]);
    let want = format!(
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: {lacking}{{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"watch\"]}}\n{{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\" \"watch\"]}}"
    );
    check(&jane.post(roles, &role("more", more.clone())).await, (403, &want));
    // By an update, a patch and an apply as well.
    let want = want.replace("\"more\"", "\"own\"");
    check(
        &jane
            .put(&format!("{roles}/own"), &role("own", more.clone()))
            .await,
        (403, &want),
    );
    check(
        &jane
            .patch(&format!("{roles}/own"), "merge", &json!({"rules": more}))
            .await,
        (403, &want),
    );
    let apply = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "own"}, "rules": more});
    let got = jane
        .ask(
            "PATCH",
            &format!("{roles}/own?fieldManager=x&force=true"),
            &[("content-type", "application/apply-patch+yaml")],
            apply.to_string(),
        )
        .await;
    check(&got, (403, &want));
    // What others have written she may change as far as owners and finalizers go.
    made(&world, roles, role("theirs", json!([rule(&["*"], &["*"])]))).await;
    let finalizers = json!({"metadata": {"finalizers": ["example.com/x"]}});
    check(
        &jane.patch(&format!("{roles}/theirs"), "merge", &finalizers).await,
        (200, ""),
    );
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(
        jane.patch(&format!("{roles}/theirs"), "merge", &labels)
            .await
            .code,
        403
    );
    // Aggregation gathers anything.
    let aggregated = json!({"metadata": {"name": "all"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let got = jane.post(&format!("{RBAC}/clusterroles"), &aggregated).await;
    assert!(
        got.text
            .contains("must have cluster-admin privileges to use the aggregationRule: user \\\"jane\\\""),
        "{}",
        got.text
    );
    // Who may escalate may.
    let escalate = json!({"verbs": ["escalate"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "resourceNames": ["more"]});
    made(&world, roles, role("escalate", json!([escalate]))).await;
    made(
        &world,
        &format!("{RBAC}/namespaces/default/rolebindings"),
        binding("escalate", ("Role", "escalate"), "jane"),
    )
    .await;
    check(&jane.post(roles, &role("more", more.clone())).await, (201, ""));
    assert_eq!(
        jane.put(&format!("{roles}/own"), &role("own", more)).await.code,
        403
    );
}

#[tokio::test]
async fn bindings_give_what_their_writer_has() {
    let (world, jane) = with_jane().await;
    let bindings = &format!("{RBAC}/namespaces/default/rolebindings");
    check(
        &jane
            .post(bindings, &binding("own", ("ClusterRole", "jane"), "joe"))
            .await,
        (201, ""),
    );
    let got = jane
        .post(
            bindings,
            &binding("root", ("ClusterRole", "cluster-admin"), "jane"),
        )
        .await;
    let lacking = "user \"jane\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n";
    let all =
        "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}";
    let want = format!("rolebindings.rbac.authorization.k8s.io \"root\" is forbidden: {lacking}{all}");
    check(&got, (403, &want));
    let got = jane
        .post(
            &format!("{RBAC}/clusterrolebindings"),
            &binding("root", ("ClusterRole", "cluster-admin"), "jane"),
        )
        .await;
    check(&got, (403, &want.replace("rolebindings", "clusterrolebindings")));
    let got = jane
        .post(bindings, &binding("gone", ("Role", "gone"), "jane"))
        .await;
    check(&got, (404, "role.rbac.authorization.k8s.io \"gone\" not found"));
    // Who may bind a role may, whatever it holds.
    let bind = json!({"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view", "cluster-admin"]});
    made(
        &world,
        &format!("{RBAC}/clusterroles"),
        json!({"metadata": {"name": "bind"}, "rules": [bind]}),
    )
    .await;
    made(&world, bindings, binding("bind", ("ClusterRole", "bind"), "jane")).await;
    check(
        &jane
            .post(
                bindings,
                &binding("root", ("ClusterRole", "cluster-admin"), "jane"),
            )
            .await,
        (201, ""),
    );
    let got = jane
        .post(
            &format!("{RBAC}/clusterrolebindings"),
            &binding("root", ("ClusterRole", "cluster-admin"), "jane"),
        )
        .await;
    assert_eq!(got.code, 403, "bound in one namespace only: {}", got.text);
}

fn node(name: &str) -> User {
    User::new(format!("system:node:{name}"), &["system:nodes"])
}

async fn pod_on(world: &World, name: &str, node: &str) -> Value {
    let token = json!({"serviceAccountToken": {"path": "token", "audience": "vault"}});
    let spec = json!({
        "nodeName": node,
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "t", "projected": {"sources": [token]}}],
    });
    made(
        world,
        &format!("{CORE}/pods"),
        json!({"metadata": {"name": name}, "spec": spec}),
    )
    .await
}

#[tokio::test]
async fn a_node_writes_its_own_node_as_a_node_may() {
    let world = World::new().await;
    let n = world.by(node("n"));
    let of = |name: &str, labels: Value| json!({"metadata": {"name": name, "labels": labels}});
    let nodes = "/api/v1/nodes";
    check(
        &n.post(nodes, &of("m", json!({}))).await,
        (
            403,
            "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\"",
        ),
    );
    let labels = json!({"node-role.kubernetes.io/control-plane": "", "kubernetes.io/hostname": "n"});
    check(
        &n.post(nodes, &of("n", labels)).await,
        (
            403,
            "nodes \"n\" is forbidden: is not allowed to set the following labels: node-role.kubernetes.io/control-plane",
        ),
    );
    check(
        &n.post(
            nodes,
            &of("n", json!({"kubernetes.io/hostname": "n", "disk": "ssd"})),
        )
        .await,
        (201, ""),
    );
    made(&world, nodes, of("m", json!({}))).await;
    for (path, patch, want) in [
        ("n", json!({"metadata": {"labels": {"disk": "hdd"}}}), (200, "")),
        (
            "n",
            json!({"metadata": {"labels": {"node-restriction.kubernetes.io/fips": "true"}}}),
            (
                403,
                "nodes \"n\" is forbidden: is not allowed to modify labels: node-restriction.kubernetes.io/fips",
            ),
        ),
        (
            "n",
            json!({"spec": {"taints": []}}),
            (
                403,
                "nodes \"n\" is forbidden: node \"n\" is not allowed to modify taints",
            ),
        ),
        ("n", json!({"spec": {"unschedulable": true}}), (200, "")),
        ("n/status", json!({"status": {"phase": "Running"}}), (200, "")),
        (
            "m/status",
            json!({"status": {"phase": "Running"}}),
            (
                403,
                "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\"",
            ),
        ),
        (
            "m",
            json!({"metadata": {"labels": {"disk": "hdd"}}}),
            (
                403,
                "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\"",
            ),
        ),
    ] {
        check(&n.patch(&format!("{nodes}/{path}"), "merge", &patch).await, want);
    }
    assert_eq!(n.delete(&format!("{nodes}/n"), &json!({})).await.code, 403);
    // Leases, CSINodes and ResourceSlices: only with its own name.
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": name}});
    check(&n.post(leases, &lease("n")).await, (201, ""));
    check(
        &n.post(leases, &lease("m")).await,
        (
            403,
            "leases.coordination.k8s.io \"m\" is forbidden: can only access node lease with the same name as the requesting node",
        ),
    );
    let csi = "/apis/storage.k8s.io/v1/csinodes";
    check(
        &n.post(csi, &json!({"metadata": {"name": "m"}, "spec": {"drivers": []}}))
            .await,
        (
            403,
            "csinodes.storage.k8s.io \"m\" is forbidden: can only access CSINode with the same name as the requesting node",
        ),
    );
}

#[tokio::test]
async fn a_node_writes_its_own_pods_as_a_node_may() {
    let world = World::new().await;
    let n = world.by(node("n"));
    let own_node = made(&world, "/api/v1/nodes", json!({"metadata": {"name": "n"}})).await;
    let own = pod_on(&world, "p", "n").await;
    let other = pod_on(&world, "q", "m").await;
    let status = json!({"status": {"message": "x"}});
    check(
        &n.patch(&format!("{CORE}/pods/p/status"), "merge", &status).await,
        (200, ""),
    );
    check(
        &n.patch(&format!("{CORE}/pods/q/status"), "merge", &status).await,
        (
            403,
            "pods \"q\" is forbidden: node \"n\" can only update pod status for pods with spec.nodeName set to itself",
        ),
    );
    let claims = json!({"status": {"resourceClaimStatuses": [{"name": "a", "resourceClaimName": "b"}]}});
    check(
        &n.patch(&format!("{CORE}/pods/p/status"), "merge", &claims).await,
        (
            403,
            "pods \"p\" is forbidden: node \"n\" cannot update resource claim statuses",
        ),
    );
    assert_eq!(
        n.patch(
            &format!("{CORE}/pods/p"),
            "merge",
            &json!({"metadata": {"labels": {"a": "b"}}})
        )
        .await
        .code,
        403
    );
    check(
        &n.delete(&format!("{CORE}/pods/q"), &json!({})).await,
        (
            403,
            "pods \"q\" is forbidden: node \"n\" can only delete pods with spec.nodeName set to itself",
        ),
    );
    let eviction =
        |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    check(
        &n.post(&format!("{CORE}/pods/q/eviction"), &eviction("q")).await,
        (
            403,
            "pods \"q\" is forbidden: node n can only evict pods with spec.nodeName set to itself",
        ),
    );
    assert_eq!(n.delete(&format!("{CORE}/pods"), &json!({})).await.code, 403);
    // Mirror Pods, and no others.
    let mirror = |change: &dyn Fn(&mut Value)| {
        let mut pod = json!({
            "metadata": {"name": "mirror", "annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [{
                "apiVersion": "v1", "kind": "Node", "name": "n", "uid": own_node["metadata"]["uid"], "controller": true,
            }]},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
        });
        change(&mut pod);
        pod
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(Change<'_>, &str); 6] = [
        (
            &|pod| pod["metadata"]["annotations"] = json!({}),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods",
        ),
        (
            &|pod| pod["spec"]["nodeName"] = "m".into(),
            "node \"n\" can only create pods with spec.nodeName set to itself",
        ),
        (
            &|pod| pod["metadata"]["ownerReferences"] = json!([]),
            "node \"n\" can only create pods with an owner reference set to itself",
        ),
        (
            &|pod| pod["spec"]["serviceAccountName"] = "default".into(),
            "a mirror pod may not reference service accounts",
        ),
        (
            &|pod| pod["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}}]),
            "a mirror pod may not reference secrets",
        ),
        (
            &|pod| pod["spec"]["resourceClaims"] = json!([{"name": "c", "resourceClaimName": "x"}]),
            "node \"n\" can not create pods that reference resourceclaims",
        ),
    ];
    for (change, why) in cases {
        check(
            &n.post(&format!("{CORE}/pods"), &mirror(change)).await,
            (403, &format!("pods \"mirror\" is forbidden: {why}")),
        );
    }
    check(
        &n.post(&format!("{CORE}/pods"), &mirror(&|_| {})).await,
        (201, ""),
    );
    // Tokens: for its own Pods, and for what these ask for.
    let token = |pod: &Value, audiences: Value| {
        let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]});
        json!({"spec": {"audiences": audiences, "boundObjectRef": bound}})
    };
    let tokens = format!("{CORE}/serviceaccounts/default/token");
    check(&n.post(&tokens, &token(&own, json!(["vault"]))).await, (201, ""));
    let refused = |why: &str| format!("serviceaccounts \"default\" is forbidden: {why}");
    check(
        &n.post(&tokens, &token(&other, json!(["vault"]))).await,
        (
            403,
            &refused("node requested token bound to a pod scheduled on a different node"),
        ),
    );
    check(
        &n.post(&tokens, &token(&own, json!(["other"]))).await,
        (403, &refused("audience \"other\" not found in pod spec volume")),
    );
    check(
        &n.post(&tokens, &json!({"spec": {}})).await,
        (403, &refused("node requested token not bound to a pod")),
    );
    let mut gone = token(&own, json!(["vault"]));
    gone["spec"]["boundObjectRef"]["uid"] = Value::Null;
    check(
        &n.post(&tokens, &gone).await,
        (
            403,
            &refused("node requested token with a pod binding without a uid"),
        ),
    );
    check(
        &n.delete(&format!("{CORE}/pods/p"), &json!({"gracePeriodSeconds": 0}))
            .await,
        (200, ""),
    );
}
