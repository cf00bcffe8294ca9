//! What identity, access and admission cost: CPU of a write with each of them beside the same write without, and of a
//! decision beside a naive reader of the same rules. Run by `cargo xtask bench access`.
//!
//! The whole front end and an in-memory store in this process, no sockets. CPU is that of the process, so other work on the
//! machine does not count.

#[path = "../tests/common/operator_crd.rs"]
mod operator_crd;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_apiserver::authorize::Attributes;
use corten_apiserver::pki::AccountKey;
use corten_apiserver::tokens::{DEFAULT_ISSUER, Issuer};
use corten_apiserver::{ApiServer, Config, InProcess, User};
use corten_store::Store;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::Service;

/// That of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const ROLES: usize = 2_000;
const NAMESPACES: usize = 10_000;
const CRDS: usize = 200;
/// Decisions measured for each question.
const DECISIONS: usize = 20_000;
/// Most memory of one definition, in KB.
const CRD_GOAL_KB: f64 = 150.0;

struct World {
    server: ApiServer,
    by: InProcess,
    by_token: InProcess,
    writes: usize,
}

impl World {
    async fn new(writes: usize) -> Result<World, Failure> {
        let store = Store::open(corten_store::Config {
            tagger: Some(corten_apiserver::tag),
            ..corten_store::Config::in_memory()
        })
        .await?;
        let mut config = Config::new(IpAddr::from([192, 0, 2, 1]), "bench CA");
        config.tokens = Some(Arc::new(Issuer::new(DEFAULT_ISSUER, &AccountKey::generate()?)?));
        let server = ApiServer::new(store, config);
        server.bootstrap().await?;
        Ok(World {
            by: server.in_process(User::component("bench")),
            by_token: server.in_process_by_credentials(),
            server,
            writes,
        })
    }

    async fn ask(&self, by: &InProcess, request: Request<Full<Bytes>>) -> Result<Bytes, Failure> {
        let Ok(response) = by.clone().call(request).await;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(body)
    }

    /// Reads an answer as it comes and keeps nothing of it.
    async fn read_through(&self, path: &str) -> Result<(), Failure> {
        let Ok(response) = self
            .by
            .clone()
            .call(request("GET", path, &Value::Null, "")?)
            .await;
        if !response.status().is_success() {
            return Err(format!("{path}: {}", response.status()).into());
        }
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let answer = self.ask(&self.by, request("POST", path, body, "")?).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Waits until a resource is served.
    async fn served(&self, path: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let got = self.ask(&self.by, request("GET", path, &Value::Null, "")?).await;
            match got {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// CPU of one POST, in microseconds. `make`: path and body of the n-th.
    async fn cost(
        &self,
        by: &InProcess,
        token: &str,
        make: impl Fn(usize) -> (String, Value),
    ) -> Result<f64, Failure> {
        let requests: Vec<_> = (0..self.writes)
            .map(|n| {
                let (path, body) = make(n);
                request("POST", &path, &body, token)
            })
            .collect::<Result<_, _>>()?;
        let before = cpu()?;
        for request in requests {
            self.ask(by, request).await?;
        }
        Ok((cpu()? - before).as_secs_f64() * 1e6 / self.writes as f64)
    }
}

fn request(method: &str, path: &str, body: &Value, token: &str) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    Ok(request.body(Full::new(Bytes::from(body.to_string())))?)
}

/// CPU time of this process so far.
fn cpu() -> Result<Duration, Failure> {
    const TICK: Duration = Duration::from_millis(10); // USER_HZ is 100 on every Linux
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut ticks = fields.split_whitespace().skip(11).take(2);
    let mut next = || -> Result<u32, Failure> { Ok(ticks.next().ok_or("a short stat")?.parse()?) };
    Ok(TICK * (next()? + next()?))
}

fn rss_kb() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmRSS")?
        .parse()?;
    Ok(kib * 1.024)
}

fn map(prefix: &str, n: usize) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("{prefix}-{n}"), "labels": { "app": "bench" } }, "data": { "a": "1" } })
}

fn row(name: &str, micros: f64, peer: f64) {
    println!(
        "  {name:<58} {micros:>8.1} us  {:>6.2} x  (+{:.1} us)",
        micros / peer,
        micros - peer
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let writes = std::env::args().nth(1).map_or(Ok(5_000), |text| text.parse())?;
    // First: what the others have let go of would hide what this takes.
    memory().await?;
    if std::env::args().nth(2).as_deref() == Some("memory") {
        return Ok(());
    }
    println!(
        "== access: CPU of one POST of a ConfigMap, {writes} each; x: beside the administrator's, whom no rule is asked about"
    );
    let world = World::new(writes).await?;
    let peer = writes_by(&world).await?;
    decisions(&world, "default policy").await?;
    roles(&world).await?;
    let jane = world.server.in_process(User::new("jane", &[]));
    let cost = world.cost(&jane, "", |n| (MAPS.into(), map("many", n))).await?;
    row("a user by a Role, 2,000 Roles and bindings", cost, peer);
    decisions(&world, "2,000 Roles and bindings more").await?;
    policies(&world, peer).await?;
    definitions(&world).await?;
    drop(world);
    quotas(writes).await
}

/// Identities. Returns the peer: the administrator's write.
async fn writes_by(world: &World) -> Result<f64, Failure> {
    let master = world.server.in_process(User::new("root", &["system:masters"]));
    world.cost(&master, "", |n| (MAPS.into(), map("warm", n))).await?;
    let peer = world
        .cost(&master, "", |n| (MAPS.into(), map("master", n)))
        .await?;
    row("system:masters", peer, peer);
    bind(
        world,
        "writer",
        "maps",
        json!({ "kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io" }),
    )
    .await?;
    let jane = world.server.in_process(User::new("jane", &[]));
    let cost = world.cost(&jane, "", |n| (MAPS.into(), map("jane", n))).await?;
    row("a user by a Role, default policy", cost, peer);
    let account = json!({ "metadata": { "name": "robot" } });
    world
        .post("/api/v1/namespaces/default/serviceaccounts", &account)
        .await?;
    bind(
        world,
        "robot",
        "maps",
        json!({ "kind": "ServiceAccount", "name": "robot", "namespace": "default" }),
    )
    .await?;
    let asks = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let token = world
        .post("/api/v1/namespaces/default/serviceaccounts/robot/token", &asks)
        .await?;
    let token = token["status"]["token"].as_str().ok_or("no token")?.to_owned();
    let by_token = world.by_token.clone();
    let cost = world
        .cost(&by_token, &token, |n| (MAPS.into(), map("robot", n)))
        .await?;
    row("a ServiceAccount by its token (ES256) and a Role", cost, peer);
    Ok(peer)
}

/// Binds a Role in `default` about ConfigMaps and `others` to a subject.
async fn bind(world: &World, name: &str, resource: &str, subject: Value) -> Result<(), Failure> {
    let role = json!({ "metadata": { "name": name }, "rules": [{ "apiGroups": ["", "bench.io"], "resources": ["configmaps", resource], "verbs": ["create"] }] });
    world
        .post(&format!("{RBAC}/namespaces/default/roles"), &role)
        .await?;
    let binding = json!({ "metadata": { "name": name }, "subjects": [subject],
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name } });
    world
        .post(&format!("{RBAC}/namespaces/default/rolebindings"), &binding)
        .await?;
    Ok(())
}

/// Half of them in the namespace that is written to, a tenth of them the writer's own.
async fn roles(world: &World) -> Result<(), Failure> {
    for n in 0..ROLES {
        let user = if n % 10 == 0 {
            "jane".to_owned()
        } else {
            format!("user-{n}")
        };
        let subject = json!({ "kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io" });
        let (plural, place) = if n % 2 == 0 {
            ("role", "/namespaces/default")
        } else {
            ("clusterrole", "")
        };
        let kind = if n % 2 == 0 { "Role" } else { "ClusterRole" };
        let name = format!("r{n}");
        let rules =
            json!([{ "apiGroups": ["apps"], "resources": [format!("things{n}")], "verbs": ["get", "list"] }]);
        let role = json!({ "metadata": { "name": name }, "rules": rules });
        world.post(&format!("{RBAC}{place}/{plural}s"), &role).await?;
        let binding = json!({ "metadata": { "name": name }, "subjects": [subject],
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name } });
        world
            .post(&format!("{RBAC}{place}/{plural}bindings"), &binding)
            .await?;
    }
    Ok(())
}

/// The rules as upstream's authorizer holds them: every binding is looked at for every question.
struct Naive(Vec<(String, Vec<Value>, Vec<Value>)>);

impl Naive {
    async fn read(world: &World) -> Result<Naive, Failure> {
        let mut lists = Vec::new();
        for plural in ["clusterroles", "roles", "clusterrolebindings", "rolebindings"] {
            let got = world
                .ask(
                    &world.by,
                    request("GET", &format!("{RBAC}/{plural}"), &Value::Null, "")?,
                )
                .await?;
            let mut list: Value = serde_json::from_slice(&got)?;
            lists.push(match list["items"].take() {
                Value::Array(items) => items,
                _ => Vec::new(),
            });
        }
        let text =
            |value: &Value, field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
        let rules_of = |kind: &Value, name: &Value, namespace: &str| {
            let roles = &lists[usize::from(kind != "ClusterRole")];
            let found = roles.iter().find(|role| {
                role["metadata"]["name"] == *name
                    && (kind == "ClusterRole" || text(role, "namespace") == namespace)
            });
            found
                .and_then(|role| role["rules"].as_array().cloned())
                .unwrap_or_default()
        };
        let bindings = lists[2].iter().chain(&lists[3]);
        let all = bindings.map(|binding| {
            let namespace = text(binding, "namespace");
            let rules = rules_of(
                &binding["roleRef"]["kind"],
                &binding["roleRef"]["name"],
                &namespace,
            );
            (
                namespace,
                binding["subjects"].as_array().cloned().unwrap_or_default(),
                rules,
            )
        });
        Ok(Naive(all.collect()))
    }

    fn allows(&self, asked: &Attributes<'_>) -> bool {
        let has = |rule: &Value, field: &str, word: &str| {
            let mut words = rule[field].as_array().into_iter().flatten();
            words.any(|own| own == "*" || own == word)
        };
        self.0.iter().any(|(namespace, subjects, rules)| {
            (namespace.is_empty() || namespace == asked.namespace)
                && subjects.iter().any(|subject| match subject["kind"].as_str() {
                    Some("User") => subject["name"] == asked.user.name.as_str(),
                    Some("Group") => asked
                        .user
                        .groups
                        .iter()
                        .any(|group| subject["name"] == group.as_str()),
                    _ => {
                        let name = asked.user.name.strip_prefix("system:serviceaccount:");
                        name.and_then(|name| name.split_once(':'))
                            .is_some_and(|(of, name)| subject["namespace"] == of && subject["name"] == name)
                    }
                })
                && rules.iter().any(|rule| {
                    has(rule, "verbs", asked.verb)
                        && has(rule, "apiGroups", asked.group)
                        && has(rule, "resources", asked.resource)
                })
        })
    }
}

async fn decisions(world: &World, what: &str) -> Result<(), Failure> {
    let naive = Naive::read(world).await?;
    let jane = User::new("jane", &["system:authenticated"]);
    let controller = User::new(
        "system:serviceaccount:kube-system:deployment-controller",
        &[
            "system:serviceaccounts",
            "system:serviceaccounts:kube-system",
            "system:authenticated",
        ],
    );
    println!(
        "  one decision, {what} ({} bindings); x: how much longer a reader of all bindings takes",
        naive.0.len()
    );
    for (name, user, verb, group, resource) in [
        ("allowed to a user", &jane, "create", "", "configmaps"),
        ("refused to a user", &jane, "create", "", "secrets"),
        (
            "allowed to a controller",
            &controller,
            "update",
            "apps",
            "deployments",
        ),
    ] {
        let asked = Attributes {
            namespace: "default",
            ..Attributes::resource(user, verb, group, resource)
        };
        let (ours, theirs) = (world.server.authorize_now(&asked).allowed(), naive.allows(&asked));
        if ours != theirs {
            return Err(format!("{name}: {ours}, naively {theirs}").into());
        }
        let own = each(DECISIONS, || world.server.authorize_now(&asked).allowed());
        let other = each(DECISIONS / 20, || naive.allows(&asked));
        println!("    {name:<56} {own:>8.2} us  {:>6.0} x", other / own);
    }
    Ok(())
}

/// Microseconds of one call.
fn each(times: usize, mut call: impl FnMut() -> bool) -> f64 {
    let started = Instant::now();
    for _ in 0..times {
        std::hint::black_box(call());
    }
    started.elapsed().as_secs_f64() * 1e6 / times as f64
}

async fn policies(world: &World, peer: f64) -> Result<(), Failure> {
    let rules = json!([{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] }]);
    let policy = json!({ "metadata": { "name": "bench" }, "spec": { "matchConstraints": { "resourceRules": rules },
        "validations": [{ "expression": "object.metadata.labels.app == 'bench' && size(object.data) < 100" }] } });
    let group = "/apis/admissionregistration.k8s.io/v1";
    world
        .post(&format!("{group}/validatingadmissionpolicies"), &policy)
        .await?;
    let binding = json!({ "metadata": { "name": "bench" }, "spec": { "policyName": "bench", "validationActions": ["Deny"] } });
    world
        .post(&format!("{group}/validatingadmissionpolicybindings"), &binding)
        .await?;
    let master = world.server.in_process(User::new("root", &["system:masters"]));
    let cost = world
        .cost(&master, "", |n| (MAPS.into(), map("policy", n)))
        .await?;
    row("a ValidatingAdmissionPolicy of one rule", cost, peer);
    Ok(())
}

fn definition(plural: &str, rule: bool) -> Value {
    let mut spec = json!({ "type": "object", "properties": {
        "size": { "type": "integer", "minimum": 0 }, "name": { "type": "string", "maxLength": 63 },
        "items": { "type": "array", "maxItems": 20, "items": { "type": "string", "maxLength": 20 } } } });
    if rule {
        spec["x-kubernetes-validations"] =
            json!([{ "rule": "self.size < 10 && self.items.all(item, item.startsWith('a'))" }]);
    }
    json!({ "metadata": { "name": format!("{plural}.bench.io") }, "spec": { "group": "bench.io", "scope": "Namespaced",
        "names": { "plural": plural, "kind": plural, "listKind": format!("{plural}List"), "singular": plural },
        "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": spec } } } }] } })
}

async fn definitions(world: &World) -> Result<(), Failure> {
    println!("  CPU of one POST of a custom resource; x: beside the same without a rule");
    let mut peer = 0.0;
    for (plural, rule) in [("plains", false), ("ruleds", true)] {
        world.post(DEFINITIONS, &definition(plural, rule)).await?;
        let path = format!("/apis/bench.io/v1/namespaces/default/{plural}");
        world.served(&path).await?;
        let object = |n: usize| {
            json!({ "apiVersion": "bench.io/v1", "kind": plural, "metadata": { "name": format!("o{n}") },
                "spec": { "size": 3, "name": "x", "items": ["a1", "a2", "a3", "a4", "a5"] } })
        };
        let by = world.by.clone();
        let cost = world.cost(&by, "", |n| (path.clone(), object(n))).await?;
        if !rule {
            peer = cost;
        }
        row(
            if rule {
                "a CEL rule over five items"
            } else {
                "no rule"
            },
            cost,
            peer,
        );
    }
    Ok(())
}

async fn quotas(writes: usize) -> Result<(), Failure> {
    println!("  CPU of one POST of a ConfigMap under quota; x: beside one in a namespace without");
    let world = World::new(writes).await?;
    let by = world.by.clone();
    world.cost(&by, "", |n| (MAPS.into(), map("warm", n))).await?;
    let peer = world.cost(&by, "", |n| (MAPS.into(), map("free", n))).await?;
    row("one namespace, no quota", peer, peer);
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "count/configmaps": "1000000", "pods": "100" } } });
    let started = Instant::now();
    for n in 0..NAMESPACES {
        let name = format!("n{n}");
        world
            .post("/api/v1/namespaces", &json!({ "metadata": { "name": name } }))
            .await?;
        world
            .post(&format!("/api/v1/namespaces/{name}/resourcequotas"), &quota)
            .await?;
    }
    println!(
        "  (10,000 namespaces and quotas made in {:.1} s)",
        started.elapsed().as_secs_f64()
    );
    let in_namespace = |n: usize, prefix: &str, spread: usize| {
        (
            format!("/api/v1/namespaces/n{}/configmaps", n % spread),
            map(prefix, n),
        )
    };
    // A quota counts once its status says so; nobody runs the controller here.
    let status = json!({ "status": { "hard": quota["spec"]["hard"], "used": { "count/configmaps": "0", "pods": "0" } } });
    for n in 0..NAMESPACES {
        let path = format!("/api/v1/namespaces/n{n}/resourcequotas/q/status");
        let mut request = request("PATCH", &path, &status, "")?;
        let media = http::HeaderValue::from_static("application/merge-patch+json");
        request.headers_mut().insert("content-type", media);
        world.ask(&by, request).await?;
    }
    let cost = world.cost(&by, "", |n| in_namespace(n, "one", 1)).await?;
    row("one of 10,000 namespaces with quota", cost, peer);
    let cost = world
        .cost(&by, "", |n| in_namespace(n, "all", NAMESPACES))
        .await?;
    row("all of 10,000 namespaces with quota in turn", cost, peer);
    let master = world.server.in_process(User::new("root", &["system:masters"]));
    let cost = world
        .cost(&master, "", |n| (MAPS.into(), map("beside", n)))
        .await?;
    row("a namespace without quota beside them", cost, peer);
    Ok(())
}

async fn memory() -> Result<(), Failure> {
    let world = World::new(1).await?;
    world.read_through("/openapi/v2").await?;
    let before = rss_kb()?;
    let size = operator_crd::definition(0).to_string().len() as f64 / 1000.0;
    for n in 0..CRDS {
        world.post(DEFINITIONS, &operator_crd::definition(n)).await?;
    }
    for n in 0..CRDS {
        world.served(&operator_crd::path(n)).await?;
    }
    let made = (rss_kb()? - before) / CRDS as f64;
    for n in 0..CRDS {
        world
            .post(&operator_crd::path(n), &operator_crd::object(n, "web"))
            .await?;
    }
    let used = (rss_kb()? - before) / CRDS as f64;
    for n in 0..20 {
        let document = format!("/openapi/v3/apis/{}/v1", operator_crd::group(n));
        world.read_through(&document).await?;
    }
    world.read_through("/openapi/v2").await?;
    let published = (rss_kb()? - before) / CRDS as f64;
    println!(
        "  memory of each of {CRDS} definitions like cert-manager's Certificate ({size:.1} KB of JSON); x: beside the goal of {CRD_GOAL_KB} KB"
    );
    for (name, kb) in [
        ("established", made),
        ("with an object each", used),
        ("with their OpenAPI documents asked for", published),
    ] {
        println!("    {name:<56} {kb:>8.1} KB  {:>6.2} x", kb / CRD_GOAL_KB);
    }
    Ok(())
}
