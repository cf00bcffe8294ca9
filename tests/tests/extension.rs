//! Webhooks and an aggregated API server that run as a Pod behind a Service, as their users install them: called through
//! the node's tunnel, as the user who asks, and missed in the words of upstream while they are gone.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use corten_tests::wait::expect;
use corten_tests::{Cases, Cluster, Kubectl, eventually, gadgets, manifests, within};
use serde_json::{Value, json};

/// Our own server of extensions; see its head.
const PROGRAM: &str = env!("CARGO_BIN_EXE_corten-test-extension");
const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "extension";
const API: &str = "apiservice/v1alpha1.who.example.com";
const DEADLINE: Duration = Duration::from_secs(60);
/// A change that is noticed by the next look upstream's resync would take is noticed too late.
const NOTICED: Duration = Duration::from_secs(20);
const FOLDER: &str = "/extension";
const PORT: u16 = 8443;

#[test]
fn extensions_in_pods_serve_as_their_users_and_are_missed_when_they_are_gone() {
    let cluster = Cluster::with_images("extension", 1);
    let kubectl = cluster.kubectl();
    let own =
        rcgen::generate_simple_self_signed([format!("{SERVICE}.{NAMESPACE}.svc")]).expect("a certificate");
    let certificate = own.cert.pem();
    let bundle = base64::engine::general_purpose::STANDARD.encode(&certificate);
    kubectl.namespace(NAMESPACE).apply(&manifests::list(&installed(
        &certificate,
        &own.signing_key.serialize_pem(),
    )));
    scaled(kubectl, 1);
    let mut cases = Cases::new();
    cases.case("an aggregated API comes up and serves as its users", || {
        kubectl.apply(&api_service(&bundle));
        kubectl.ok(&format!("wait --for=condition=Available {API} --timeout=60s"));
        serves(kubectl);
    });
    cases.case("its objects know who asked", || identities(kubectl));
    cases.case("only the front proxy may name users", || {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/services/https:{SERVICE}:443/proxy/apis/who.example.com/v1alpha1/visits");
        let said = kubectl.line(&format!("get --raw {path}"));
        assert!(!said.succeeded() && said.stderr.contains("Unauthorized"), "{said}");
    });
    cases.case("admission webhooks mutate and refuse", || {
        kubectl.apply(&manifests::list(&webhooks(&bundle)));
        admits(kubectl);
    });
    cases.case("a conversion webhook converts", || {
        kubectl.apply(&gadgets::definition(&client(&bundle, "/convert")));
        kubectl.ok(
            "wait --for=condition=Established customresourcedefinition/gadgets.example.com --timeout=30s",
        );
        eventually("a gadget is made", DEADLINE, || {
            let gadget = gadgets::gadget("first", &json!({ "size": "3" }));
            let made = kubectl.run(&["apply", "-f", "-"], &gadget.to_string());
            expect(made.succeeded(), || made.to_string())
        });
        assert_eq!(kubectl.json("gadgets.v2.example.com first")["spec"]["width"], 3);
    });
    cases.case("a namespace goes with its aggregated objects", || {
        kubectl.ok("create namespace emptied");
        visit(&kubectl.namespace("emptied"), "last");
        kubectl.ok("delete namespace emptied --timeout=60s");
        let left = kubectl.json("visits --all-namespaces");
        let left = left["items"].as_array().expect("a list");
        assert!(
            left.iter()
                .all(|visit| visit["metadata"]["namespace"] != "emptied"),
            "{left:?}"
        );
    });
    cases.case(
        "it serves on while the front proxy's authority is replaced",
        || replaced_authorities(&cluster),
    );
    cases.case("a webhook that is gone fails as its policy says", || {
        scaled(kubectl, 0);
        missed(kubectl);
    });
    cases.case("a namespace waits for an API that is down, and goes when it is back", || {
        let took = available(kubectl, "False", "MissingEndpoints", "endpointslices for service/extension in \"kube-system\" have no addresses with port name \"\"");
        println!("an API without Pods is noticed after {took:?}");
        let gone = kubectl.line("get visits");
        assert!(!gone.succeeded() && gone.stderr.contains("the server is currently unable to handle the request"), "{gone}");
        held_back(kubectl, "held");
        scaled(kubectl, 1);
        let took = available(kubectl, "True", "Passed", "all checks passed");
        println!("an API whose Pod is ready again is noticed after {took:?}");
        eventually("the namespace is gone", DEADLINE, || {
            let found = kubectl.line("get namespace held");
            expect(found.stderr.contains("NotFound"), || found.to_string())
        });
        admits(kubectl);
    });
    cases.case("what is wrong with a Service is told", || wrong_services(kubectl));
    cases.case("a namespace goes when the API that is down is taken away", || {
        scaled(kubectl, 0);
        available(kubectl, "False", "MissingEndpoints", "");
        held_back(kubectl, "freed");
        kubectl.ok(&format!("delete {API}"));
        eventually("the namespace is gone", DEADLINE, || {
            let found = kubectl.line("get namespace freed");
            expect(found.stderr.contains("NotFound"), || found.to_string())
        });
        let known = kubectl.ok("api-resources -o name");
        assert!(!known.contains("visits"), "{known}");
        let gone = kubectl.line("get --raw /apis/who.example.com/v1alpha1");
        assert!(gone.stderr.contains("NotFound"), "{gone}");
    });
    cases.finish();
}

/// The program as a Deployment in kube-system, where the front proxy's CA is, with a Service before it.
fn installed(certificate: &str, key: &str) -> Vec<Value> {
    let metadata = json!({ "name": SERVICE, "namespace": NAMESPACE });
    let mut volumes = vec![
        json!({ "name": "serving", "secret": { "secretName": SERVICE } }),
        json!({ "name": "trust", "configMap": { "name": "extension-apiserver-authentication" } }),
    ];
    let mut mounts = vec![
        json!({ "name": "serving", "mountPath": format!("{FOLDER}/serving"), "readOnly": true }),
        json!({ "name": "trust", "mountPath": format!("{FOLDER}/trust"), "readOnly": true }),
    ];
    let mut files = vec![(PROGRAM.to_owned(), "/bin/extension".to_owned())];
    files.extend(libraries().into_iter().map(|path| (path.clone(), path)));
    for (n, (from, to)) in files.iter().enumerate() {
        let from = std::fs::canonicalize(from).expect("it is there");
        volumes.push(json!({ "name": format!("file-{n}"), "hostPath": { "path": from, "type": "File" } }));
        mounts.push(json!({ "name": format!("file-{n}"), "mountPath": to, "readOnly": true }));
    }
    let container = json!({
        "name": "extension", "image": manifests::BUSYBOX, "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/extension", FOLDER, PORT.to_string()],
        "ports": [{ "containerPort": PORT }], "volumeMounts": mounts,
        "readinessProbe": { "httpGet": { "path": "/healthz", "port": PORT, "scheme": "HTTPS" }, "periodSeconds": 1 },
    });
    let labels = json!({ "app": SERVICE });
    vec![
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": certificate, "tls.key": key } }),
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": {
                "terminationGracePeriodSeconds": 1, "containers": [container], "volumes": volumes } } } }),
        service(PORT),
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "words", "labels": { "words": "checked" } } }),
    ]
}

fn service(target: u16) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": SERVICE, "namespace": NAMESPACE },
        "spec": { "selector": { "app": SERVICE }, "ports": [{ "port": 443, "targetPort": target }] } })
}

/// What the program is linked to, as `ldd` lists it.
fn libraries() -> Vec<String> {
    let listed = Command::new("ldd").arg(PROGRAM).output().expect("run ldd");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let path = |line: &str| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(str::to_owned)
    };
    let found: Vec<String> = listed.lines().filter_map(path).collect();
    assert!(found.iter().all(|path| Path::new(path).exists()), "{listed}");
    found
}

fn client(bundle: &str, path: &str) -> Value {
    json!({ "caBundle": bundle, "service": { "namespace": NAMESPACE, "name": SERVICE, "path": path } })
}

fn api_service(bundle: &str) -> Value {
    json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": "v1alpha1.who.example.com" },
        "spec": { "group": "who.example.com", "version": "v1alpha1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "caBundle": bundle, "service": { "namespace": NAMESPACE, "name": SERVICE } } })
}

fn webhooks(bundle: &str) -> Vec<Value> {
    let configuration = |kind: &str, path: &str| {
        json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": "words" },
            "webhooks": [{
                "name": "words.example.com", "clientConfig": client(bundle, path), "admissionReviewVersions": ["v1"],
                "sideEffects": "None", "failurePolicy": "Fail", "timeoutSeconds": 5,
                "namespaceSelector": { "matchLabels": { "words": "checked" } },
                "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] }],
            }] })
    };
    vec![
        configuration("MutatingWebhookConfiguration", "/mutate"),
        configuration("ValidatingWebhookConfiguration", "/validate"),
    ]
}

/// As many Pods as that, and no others.
#[track_caller]
fn scaled(kubectl: &Kubectl, replicas: usize) {
    kubectl.ok(&format!(
        "-n {NAMESPACE} scale deployment/{SERVICE} --replicas={replicas}"
    ));
    let system = kubectl.namespace(NAMESPACE);
    eventually("the Pods are as many", DEADLINE, || {
        let pods = system.pods(&format!("app={SERVICE}"))?;
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
            conditions
                .into_iter()
                .any(|own| own["type"] == "Ready" && own["status"] == "True")
        };
        let ready = pods.iter().filter(ready).count();
        expect(ready == replicas && pods.len() == replicas, || {
            format!("{ready} of {} Pods are ready", pods.len())
        })
    });
}

/// Waits for the condition of the APIService; how long it took.
#[track_caller]
fn available(kubectl: &Kubectl, status: &str, reason: &str, message: &str) -> Duration {
    within("the condition Available", NOTICED, || {
        let service = kubectl.try_json(API)?;
        let own = &service["status"]["conditions"][0];
        let text = own["message"].as_str().unwrap_or_default();
        expect(
            own["status"] == status && own["reason"] == reason && text.contains(message),
            || own.to_string(),
        )
    })
}

fn visit(kubectl: &Kubectl, name: &str) {
    let visit = json!({ "apiVersion": "who.example.com/v1alpha1", "kind": "Visit", "metadata": { "name": name }, "spec": { "reason": "to test" } });
    kubectl.run(&["create", "-f", "-"], &visit.to_string()).ok();
}

fn serves(kubectl: &Kubectl) {
    let table = kubectl.ok(&format!("get {API}"));
    let words: Vec<&str> = table
        .lines()
        .nth(1)
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(
        words[..3],
        ["v1alpha1.who.example.com", "kube-system/extension", "True"],
        "{table}"
    );
    eventually("discovery lists it", DEADLINE, || {
        let known = kubectl
            .line("api-resources --api-group=who.example.com -o wide --no-headers")
            .stdout;
        let words: Vec<&str> = known.split_whitespace().collect();
        let want = [
            "visits",
            "vi",
            "who.example.com/v1alpha1",
            "true",
            "Visit",
            "create,delete,deletecollection,get,list,watch",
        ];
        expect(words == want, || known.clone())
    });
    let made = json!({ "apiVersion": "who.example.com/v1alpha1", "kind": "Visit", "metadata": { "name": "first" }, "spec": { "reason": "to test" } });
    assert_eq!(
        kubectl.run(&["create", "-f", "-"], &made.to_string()).ok().trim(),
        "visit.who.example.com/first created"
    );
    let again = kubectl.run(&["create", "-f", "-"], &made.to_string());
    assert!(
        again
            .stderr
            .contains("visits.who.example.com \"first\" already exists"),
        "{again}"
    );
    let listed = kubectl.ok("get vi");
    assert!(
        listed.lines().next().is_some_and(|line| line.starts_with("NAME")) && listed.contains("first"),
        "{listed}"
    );
    let explained = kubectl.ok("explain visits.spec");
    for want in [
        "GROUP:      who.example.com",
        "Why somebody came.",
        "In the visitor's own words.",
    ] {
        assert!(explained.contains(want), "{want:?} is not in {explained}");
    }
    assert_eq!(
        kubectl.ok("delete visit first").trim(),
        "visit.who.example.com \"first\" deleted"
    );
    let gone = kubectl.line("get visit first");
    assert_eq!(
        gone.stderr.trim(),
        "Error from server (NotFound): visits.who.example.com \"first\" not found"
    );
}

fn identities(kubectl: &Kubectl) {
    visit(kubectl, "admin");
    let user = |name: &str| kubectl.json(&format!("visit {name}"))["status"]["user"].clone();
    let admin = user("admin");
    assert_eq!(
        (&admin["name"], &admin["groups"]),
        (
            &json!("kubernetes-admin"),
            &json!(["system:masters", "system:authenticated"])
        )
    );
    kubectl.ok("create clusterrole visitor --verb=create,get,list --resource=visits.who.example.com");
    kubectl.ok(
        "create clusterrolebinding visitor --clusterrole=visitor --group=dev --serviceaccount=default:robot",
    );
    kubectl.ok("create serviceaccount robot");
    let visit = |name: &str| {
        json!({ "apiVersion": "who.example.com/v1alpha1", "kind": "Visit", "metadata": { "name": name } })
            .to_string()
    };
    let jane = [
        "create",
        "-f",
        "-",
        "--validate=false",
        "--as=jane",
        "--as-group=dev",
        "--as-uid=42",
    ];
    kubectl.run(&jane, &visit("jane")).ok();
    assert_eq!(
        user("jane"),
        json!({ "name": "jane", "uid": "42", "groups": ["dev", "system:authenticated"], "extra": {} })
    );
    let nobody = kubectl.line("get visits --as=nobody");
    assert_eq!(
        nobody.stderr.trim(),
        "Error from server (Forbidden): visits.who.example.com is forbidden: User \"nobody\" cannot list resource \"visits\" in API group \"who.example.com\" in the namespace \"default\""
    );
    // A token's identity has more to it than a name.
    let token = kubectl.ok("create token robot");
    let server = kubectl.ok("config view --minify -o jsonpath={.clusters[0].cluster.server}");
    let words = [
        "create",
        "-f",
        "-",
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        "--validate=false",
        "--server",
        &server,
        "--token",
        token.trim(),
    ];
    kubectl.run(&words, &visit("robot")).ok();
    let robot = user("robot");
    assert_eq!(robot["name"], "system:serviceaccount:default:robot");
    assert_eq!(
        robot["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let account = kubectl.json("serviceaccount robot");
    assert_eq!(robot["uid"], account["metadata"]["uid"]);
    let credential = &robot["extra"]["authentication.kubernetes.io/credential-id"][0];
    assert!(
        credential.as_str().is_some_and(|id| id.starts_with("JTI=")),
        "{robot}"
    );
}

fn word(kubectl: &Kubectl, word: &str) -> corten_tests::Finished {
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "generateName": "word-" }, "data": { "word": word } });
    kubectl
        .namespace("words")
        .run(&["create", "-f", "-", "-o", "json"], &map.to_string())
}

fn admits(kubectl: &Kubectl) {
    let said = eventually("the webhooks are asked", DEADLINE, || {
        let said = word(kubectl, "fine");
        let made: Value = serde_json::from_str(&said.stdout).map_err(|_| said.to_string())?;
        let seen = made["metadata"]["annotations"]["words.example.com/seen"].clone();
        expect(!seen.is_null(), || made.to_string()).map(|()| seen)
    });
    assert_eq!(said, "kubernetes-admin");
    let refused = word(kubectl, "forbidden").refused();
    assert_eq!(
        refused.trim(),
        "Error from server (Forbidden): error when creating \"STDIN\": admission webhook \"words.example.com\" denied the request: this word is forbidden"
    );
}

fn missed(kubectl: &Kubectl) {
    let want = "failed calling webhook \"words.example.com\": failed to call webhook: Post \"https://extension.kube-system.svc:443/mutate?timeout=5s\": no endpoints available for service \"extension\"";
    eventually("the webhook is missed", DEADLINE, || {
        let refused = word(kubectl, "fine");
        expect(refused.stderr.contains(want), || refused.to_string())
    });
    let converted = kubectl.line("get gadgets.v2.example.com first");
    assert!(converted.stderr.contains("conversion webhook for example.com/v1, Kind=Gadget failed: Post \"https://extension.kube-system.svc:443/convert?timeout=30s\": no endpoints available for service \"extension\""), "{converted}");
    // What is stored in the version asked for needs nobody.
    assert_eq!(kubectl.json("gadgets.v1.example.com first")["spec"]["size"], "3");
    let policy = |policy: &str| {
        let patch =
            json!([{ "op": "replace", "path": "/webhooks/0/failurePolicy", "value": policy }]).to_string();
        for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
            kubectl
                .run(&["patch", kind, "words", "--type=json", "-p", &patch], "")
                .ok();
        }
    };
    policy("Ignore");
    let made: Value = serde_json::from_str(&word(kubectl, "forbidden").ok()).expect("an object");
    assert!(made["metadata"]["annotations"].is_null(), "{made}");
    policy("Fail");
}

/// All authorities are replaced. Not a request fails, neither before the API knows of the front proxy's new one nor after.
fn replaced_authorities(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let own = cluster.host_dir("server-0").join("admin.kubeconfig");
    let text = own.display().to_string();
    let verb = |flags: &[&str]| {
        let words = [&["certificate", "rotate-ca", "--kubeconfig", &text], flags].concat();
        cluster.corten(&words, DEADLINE)
    };
    let mounted = |wanted: usize| {
        eventually("the API is told whom to believe", DEADLINE, || {
            let file = format!("{FOLDER}/trust/requestheader-client-ca-file");
            let words = [
                "-n",
                NAMESPACE,
                "exec",
                "deployment/extension",
                "--",
                "cat",
                &file,
            ];
            let found = kubectl
                .run(&words, "")
                .stdout
                .matches("BEGIN CERTIFICATE")
                .count();
            expect(found == wanted, || format!("{found} authorities"))
        });
    };
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                kubectl.ok("get visits");
                asked.fetch_add(1, Ordering::SeqCst);
            }
        });
        let stop = StopWith(&stop);
        verb(&[]).ok();
        mounted(2);
        let beside = own.with_extension("copy");
        std::fs::copy(&own, &beside).expect("copied");
        std::fs::rename(&beside, cluster.kubeconfig()).expect("handed out");
        // Whoever has just read the old one has its answer before that is void.
        let before = asked.load(Ordering::SeqCst);
        eventually("the new one is read", DEADLINE, || {
            expect(
                asked.load(Ordering::SeqCst) > before + 1 || asks.is_finished(),
                || "not yet".into(),
            )
        });
        eventually("the node has renewed its certificate", DEADLINE, || {
            let finished = verb(&["--finish"]);
            expect(finished.succeeded(), || finished.to_string())
        });
        mounted(1);
        drop(stop);
        asks.join().expect("no request failed");
    });
    println!(
        "{} requests to the API while the authorities were replaced",
        asked.load(Ordering::SeqCst)
    );
}

/// Says that it is over, also when a panic ended it.
struct StopWith<'a>(&'a AtomicBool);

impl Drop for StopWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A namespace that is being deleted while the API is down: all else in it goes, and it says what it waits for.
fn held_back(kubectl: &Kubectl, namespace: &str) {
    kubectl.ok(&format!("create namespace {namespace}"));
    kubectl.ok(&format!("-n {namespace} create configmap there"));
    kubectl.ok(&format!("delete namespace {namespace} --wait=false"));
    let why = "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: who.example.com/v1alpha1: stale GroupVersion discovery: who.example.com/v1alpha1";
    eventually("the namespace says what it waits for", DEADLINE, || {
        let found = kubectl.try_json(&format!("namespace {namespace}"))?;
        let conditions = found["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let is = |kind: &str, status: &str, reason: &str| {
            conditions
                .iter()
                .find(|own| own["type"] == kind && own["status"] == status && own["reason"] == reason)
        };
        let told = is("NamespaceDeletionDiscoveryFailure", "True", "DiscoveryFailed");
        let empty = is("NamespaceContentRemaining", "False", "ContentRemoved");
        expect(
            told.is_some_and(|own| own["message"] == why) && empty.is_some(),
            || format!("{conditions:?}"),
        )
    });
    assert_eq!(
        kubectl.json(&format!("namespace {namespace}"))["status"]["phase"],
        "Terminating"
    );
    assert_eq!(kubectl.ok(&format!("-n {namespace} get configmaps -o name")), "");
}

fn wrong_services(kubectl: &Kubectl) {
    let system = kubectl.namespace(NAMESPACE);
    let mut listening = service(9);
    system.apply(&listening);
    available(
        kubectl,
        "False",
        "FailedDiscoveryCheck",
        "failing or missing response from https://extension.kube-system.svc:443/apis/who.example.com/v1alpha1: ",
    );
    listening["spec"]["ports"][0]["port"] = 444.into();
    system.apply(&listening);
    available(
        kubectl,
        "False",
        "ServicePortError",
        "service/extension in \"kube-system\" is not listening on port 443",
    );
    kubectl.ok(&format!("-n {NAMESPACE} delete service {SERVICE}"));
    available(
        kubectl,
        "False",
        "ServiceNotFound",
        "service/extension in \"kube-system\" is not present",
    );
    system.apply(&service(PORT));
    available(kubectl, "True", "Passed", "all checks passed");
    eventually("it serves again", DEADLINE, || {
        let listed = kubectl.line("get visits");
        expect(listed.succeeded(), || listed.to_string())
    });
}
