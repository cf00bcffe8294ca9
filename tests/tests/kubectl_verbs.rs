//! Stock kubectl, old and new, does what its user expects.
//!
//! The rows of one table run in order, in one namespace per version: later rows build on earlier ones.

use std::time::Duration;

use corten_tests::command::{self, Running};
use corten_tests::wait::expect;
use corten_tests::{Cases, Cluster, Kubectl, eventually, load, manifests};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

/// What must be in the output, and the command: words, with `|` for a space inside a word.
type Row = (&'static str, &'static str);

/// Commands whose output alone shows that they worked.
const FIRST: &[Row] = &[
    (
        "configmap/settings created",
        "create configmap settings --from-literal=colour=blue",
    ),
    (
        "secret/password created",
        "create secret generic password --from-literal=key=hidden",
    ),
    (
        "deployment.apps/made created",
        "create deployment made --image=corten.dev/test-web:1 --replicas=1 --port=8080",
    ),
    (
        "service/made created",
        "create service clusterip made --tcp=80:8080",
    ),
    ("serviceaccount/robot created", "create serviceaccount robot"),
    ("NAME", "get deployments"),
    ("blue", "get configmap settings -o jsonpath={.data.colour}"),
    ("colour: blue", "get configmap settings -o yaml"),
    ("\"colour\": \"blue\"", "get configmap settings -o json"),
    ("configmap/settings", "get configmaps -o name"),
    (
        "settings   blue",
        "get configmaps settings --no-headers -o custom-columns=N:.metadata.name,C:.data.colour",
    ),
    ("blue", "get configmap settings -o go-template={{.data.colour}}"),
    ("key:  6 bytes", "describe secret password"),
    (
        "configmap/settings patched",
        r#"patch configmap settings -p {"data":{"size":"big"}}"#,
    ),
    (
        "configmap/settings patched (no change)",
        r#"patch configmap settings -p {"data":{"size":"big"}}"#,
    ),
    (
        "configmap/settings patched",
        r#"patch configmap settings --type=merge -p {"data":{"colour":null}}"#,
    ),
    (
        "configmap/settings patched",
        r#"patch configmap settings --type=json -p [{"op":"add","path":"/data/x","value":"y"}]"#,
    ),
    (
        "{\"size\":\"big\",\"x\":\"y\"}",
        "get configmap settings -o jsonpath={.data}",
    ),
    (
        "configmap/settings labeled",
        "label configmap settings tier=front",
    ),
    (
        "configmap/settings labeled",
        "label configmap settings tier=back --overwrite",
    ),
    ("configmap/settings unlabeled", "label configmap settings tier-"),
    (
        "configmap/settings annotate",
        "annotate configmap settings note=first|words",
    ),
    (
        "first words",
        "get configmap settings -o jsonpath={.metadata.annotations.note}",
    ),
    ("configmap \"settings\" deleted", "delete configmap settings"),
    ("deployments", "api-resources"),
    ("apps/v1", "api-versions"),
    ("ok", "get --raw /readyz"),
    ("GitVersion", "version -o yaml --v=0"),
    ("is running", "cluster-info"),
    ("replicas", "explain deployment.spec"),
];

#[test]
fn stock_kubectl_works() {
    let cluster = Cluster::with_images("verbs", 2);
    let mut cases = Cases::new();
    for kubectl in &cluster.kubectls {
        let namespace = format!("v1-{}", kubectl.minor());
        kubectl.ok(&format!("create namespace {namespace}"));
        let kubectl = &kubectl.namespace(&namespace);
        let version = kubectl.version.clone();
        let mut case = |name: &str, body: &dyn Fn(&Kubectl)| {
            cases.case(&format!("{version}: {name}"), || body(kubectl));
        };
        for (want, line) in FIRST {
            case(line, &|kubectl| says(kubectl, want, line));
        }
        case("apply creates, changes and leaves alone", &apply);
        case("get, wide and watch", &get);
        case("describe", &describe);
        case("edit", &edit);
        case("scale and expose", &scale_and_expose);
        case("set image, rollout status, history, undo, restart", &rollout);
        case("logs, -f, --tail, --previous", &logs);
        case("exec, with input, with a terminal, with an exit code", &exec);
        case("attach", &attach);
        case("cp to a Pod and back", &copy);
        case("port-forward to a Pod and to a Service", &port_forward);
        case("run, to its end and attached", &run);
        case("wait", &wait);
        case(
            "delete: graceful, forced, orphaned, by label, a namespace",
            &delete,
        );
    }
    cases.finish();
}

/// Runs the words of `line` and looks for `want` in its output.
#[track_caller]
fn says(kubectl: &Kubectl, want: &str, line: &str) {
    let words: Vec<String> = line.split(' ').map(|word| word.replace('|', " ")).collect();
    let output = kubectl
        .run(&words.iter().map(String::as_str).collect::<Vec<_>>(), "")
        .ok();
    assert!(
        output.to_lowercase().contains(&want.to_lowercase()),
        "`{line}`: no {want:?} in {output}"
    );
}

fn apply(kubectl: &Kubectl) {
    let both = manifests::list(&[manifests::web("web", 2), manifests::service("web")]);
    let created = kubectl.apply(&both);
    assert!(
        created.contains("deployment.apps/web created") && created.contains("service/web created"),
        "{created}"
    );
    let again = kubectl.apply(&both);
    assert!(
        again.contains("deployment.apps/web unchanged") && again.contains("service/web unchanged"),
        "{again}"
    );
    let mut changed = manifests::web("web", 2);
    changed["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "1"}]);
    assert!(kubectl.apply(&changed).contains("deployment.apps/web configured"));
    // What apply does not name any more, it removes.
    let said = kubectl.apply(&manifests::web("web", 2));
    let left = kubectl.json("deployment web");
    let env = &left["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(*env, Value::Null, "apply said {said:?} and left {left}");
    let dry = kubectl
        .run(
            &["apply", "--dry-run=server", "-f", "-"],
            &manifests::web("dry", 1).to_string(),
        )
        .ok();
    assert!(dry.contains("created (server dry run)"), "{dry}");
    kubectl.line("get deployment dry").refused();
    kubectl.ok("rollout status deployment/web --timeout=60s");
}

fn get(kubectl: &Kubectl) {
    eventually("only the Pods of the newest template", DEADLINE, || {
        let pods = kubectl.pods("app=web")?;
        expect(pods.len() == 2, || format!("{} Pods", pods.len()))
    });
    let plain = kubectl.ok("get pods -l app=web");
    let header: Vec<&str> = plain
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(header, ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(plain.matches("1/1").count(), 2, "{plain}");
    let wide = kubectl.ok("get pods -l app=web -o wide");
    let header: Vec<&str> = wide
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(
        header[5..],
        ["IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    );
    assert!(wide.contains("node-"), "{wide}");
    let all = kubectl.ok("get deployments,replicasets,pods,services");
    for kind in [
        "deployment.apps/web",
        "replicaset.apps/web-",
        "pod/web-",
        "service/web",
    ] {
        assert!(all.contains(kind), "no {kind} in {all}");
    }
    let nodes = kubectl.ok("get nodes");
    assert_eq!(nodes.matches(" Ready ").count(), 2, "{nodes}");
    // Of names that are known: kubectl sorts numbers within random ones by their value, 27 before 252.
    let sorted = kubectl.ok("get deployments --sort-by=.metadata.name -o name");
    assert_eq!(sorted, "deployment.apps/made\ndeployment.apps/web\n");
    kubectl.line("get pods missing").refused();
    let mut watch = kubectl.start("get configmaps -w");
    watch.line(DEADLINE, |line| line.contains("kube-root-ca.crt"));
    kubectl.ok("create configmap seen --from-literal=a=b");
    watch.line(DEADLINE, |line| line.starts_with("seen "));
    let mut events = kubectl.start("get configmaps -w --output-watch-events");
    events.line(DEADLINE, |line| line.contains("ADDED") && line.contains("seen"));
    kubectl.ok("delete configmap seen");
    events.line(DEADLINE, |line| line.contains("DELETED") && line.contains("seen"));
}

fn describe(kubectl: &Kubectl) {
    let name = first_pod(kubectl, "web");
    let pod = kubectl.ok(&format!("describe pod {name}"));
    for part in [
        "Node:",
        "node-",
        "Image:",
        "corten.dev/test-web:1",
        "Ready:",
        "Successfully assigned",
        "Started",
        "Events:",
    ] {
        assert!(pod.contains(part), "no {part} in {pod}");
    }
    let deployment = kubectl.ok("describe deployment web");
    assert!(
        deployment.contains("ScalingReplicaSet") && deployment.contains("2 available"),
        "{deployment}"
    );
    let service = kubectl.ok("describe service web");
    assert!(
        service.contains("NodePort") && service.contains(":8080"),
        "{service}"
    );
    let node = kubectl.ok("describe node node-0");
    assert!(
        node.contains("Allocatable:") && node.contains("KubeletReady"),
        "{node}"
    );
}

fn edit(kubectl: &Kubectl) {
    kubectl.ok("create configmap edited --from-literal=word=old");
    let mut edit = kubectl.command(&["edit", "configmap", "edited"]);
    edit.env("KUBE_EDITOR", "sed -i s/old/new/");
    let output = command::run(&mut edit, "", DEADLINE).ok();
    assert!(output.contains("configmap/edited edited"), "{output}");
    assert_eq!(kubectl.ok("get configmap edited -o jsonpath={.data.word}"), "new");
}

fn scale_and_expose(kubectl: &Kubectl) {
    assert!(
        kubectl
            .ok("scale deployment web --replicas=3")
            .contains("deployment.apps/web scaled")
    );
    kubectl.ok("rollout status deployment/web --timeout=60s");
    kubectl
        .line("scale deployment web --current-replicas=9 --replicas=1")
        .refused();
    assert!(kubectl.ok("scale deployment web --replicas=2").contains("scaled"));
    eventually("two Pods", DEADLINE, || {
        let pods = kubectl.pods("app=web")?;
        expect(pods.len() == 2, || format!("{} Pods", pods.len()))
    });
    let exposed = kubectl.ok("expose deployment web --name=exposed --port=81 --target-port=8080");
    assert!(exposed.contains("service/exposed exposed"), "{exposed}");
    let ip = kubectl.ok("get service exposed -o jsonpath={.spec.clusterIP}");
    kubectl.apply(&manifests::shell("asker", "sleep 100000"));
    kubectl.ok("wait --for=condition=Ready pod/asker --timeout=60s");
    eventually("the exposed Service answers", DEADLINE, || {
        let finished = kubectl.line(&format!("exec asker -- timeout 3 wget -q -O - http://{ip}:81/"));
        expect(finished.stdout.contains(" v1"), || finished.to_string())
    });
}

fn rollout(kubectl: &Kubectl) {
    let set = kubectl.ok("set image deployment/web web=corten.dev/test-web:2");
    assert!(set.contains("deployment.apps/web image updated"), "{set}");
    let status = kubectl.ok("rollout status deployment/web --timeout=90s");
    assert!(
        status.contains("deployment \"web\" successfully rolled out"),
        "{status}"
    );
    let history = kubectl.ok("rollout history deployment/web");
    assert!(
        history.contains("REVISION") && history.lines().count() >= 4,
        "{history}"
    );
    let latest = kubectl
        .ok("get deployment web -o jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}");
    let detail = kubectl.ok(&format!("rollout history deployment/web --revision={latest}"));
    assert!(detail.contains("corten.dev/test-web:2"), "{detail}");
    assert!(
        kubectl
            .ok("rollout undo deployment/web")
            .contains("deployment.apps/web rolled back")
    );
    kubectl.ok("rollout status deployment/web --timeout=90s");
    let image = kubectl.ok("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}");
    assert_eq!(image, manifests::WEB_1);
    let before = first_pod(kubectl, "web");
    assert!(
        kubectl
            .ok("rollout restart deployment/web")
            .contains("deployment.apps/web restarted")
    );
    kubectl.ok("rollout status deployment/web --timeout=90s");
    eventually("the old Pod is gone", DEADLINE, || {
        expect(!kubectl.line(&format!("get pod {before}")).succeeded(), || {
            before.clone()
        })
    });
    assert!(kubectl.ok("rollout pause deployment/web").contains("paused"));
    kubectl.ok("set image deployment/web web=corten.dev/test-web:2");
    let images = kubectl.ok("get pods -l app=web -o jsonpath={.items[*].spec.containers[0].image}");
    assert!(
        !images.contains("test-web:2"),
        "a paused Deployment rolled: {images}"
    );
    kubectl.ok("set image deployment/web web=corten.dev/test-web:1");
    assert!(kubectl.ok("rollout resume deployment/web").contains("resumed"));
    kubectl.ok("rollout status deployment/web --timeout=90s");
}

fn logs(kubectl: &Kubectl) {
    kubectl.apply(&manifests::shell(
        "talker",
        "for n in 1 2 3 4 5; do echo line $n; done; sleep 100000",
    ));
    kubectl.ok("wait --for=condition=Ready pod/talker --timeout=60s");
    eventually("all lines", DEADLINE, || {
        let all = kubectl.line("logs talker");
        expect(all.stdout == "line 1\nline 2\nline 3\nline 4\nline 5\n", || {
            all.to_string()
        })
    });
    assert_eq!(kubectl.ok("logs talker --tail=2"), "line 4\nline 5\n");
    assert_eq!(kubectl.ok("logs talker -c shell --tail=1"), "line 5\n");
    let stamped = kubectl.ok("logs talker --tail=1 --timestamps");
    assert!(
        stamped.starts_with("20") && stamped.trim_end().ends_with("Z line 5"),
        "{stamped}"
    );
    assert_eq!(kubectl.ok("logs -l app=talker --tail=1"), "line 5\n");
    let mut ticker = manifests::shell(
        "ticker",
        "n=0; while true; do n=$((n+1)); echo tick $n; sleep 1; done",
    );
    ticker["spec"]["restartPolicy"] = "Never".into();
    kubectl.apply(&ticker);
    kubectl.ok("wait --for=condition=Ready pod/ticker --timeout=60s");
    let mut follow = kubectl.start("logs -f ticker --tail=1");
    follow.line(DEADLINE, |line| line.starts_with("tick "));
    follow.line(DEADLINE, |line| line.starts_with("tick "));
    drop(follow);
    kubectl.ok("delete pod ticker --wait=false");
    // Says something, fails once, and then runs on: the emptyDir remembers.
    let mut fails = manifests::shell(
        "fails",
        "if [ ! -f /once/x ]; then touch /once/x; echo first; exit 3; fi; echo second; sleep 100000",
    );
    fails["spec"]["volumes"] = json!([{"name": "once", "emptyDir": {}}]);
    fails["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "once", "mountPath": "/once"}]);
    kubectl.apply(&fails);
    eventually("the log of the container before", DEADLINE, || {
        let finished = kubectl.line("logs fails --previous");
        expect(finished.stdout == "first\n", || finished.to_string())
    });
    eventually("the log of the container now", DEADLINE, || {
        let finished = kubectl.line("logs fails");
        expect(finished.stdout == "second\n", || finished.to_string())
    });
    kubectl.line("logs talker --previous").refused();
}

fn exec(kubectl: &Kubectl) {
    let name = first_pod(kubectl, "web");
    assert_eq!(kubectl.ok(&format!("exec {name} -- hostname")).trim(), name);
    assert_eq!(
        kubectl.ok("exec deployment/web -c web -- echo hello").trim(),
        "hello"
    );
    let echoed = kubectl
        .run(&["exec", "-i", &name, "--", "cat"], "typed\ntext\n")
        .ok();
    assert_eq!(echoed, "typed\ntext\n");
    // More than any buffer on the way, there and back.
    let long = "0123456789abcde\n".repeat(64 * 1024);
    assert_eq!(
        kubectl.run(&["exec", "-i", &name, "--", "cat"], &long).ok().len(),
        long.len()
    );
    let failed = kubectl.run(
        &["exec", &name, "--", "sh", "-c", "echo out; echo err >&2; exit 7"],
        "",
    );
    assert_eq!(
        (failed.code, failed.stdout.as_str()),
        (Some(7), "out\n"),
        "{failed}"
    );
    assert!(failed.stderr.contains("err\n"), "{failed}");
    let missing = kubectl
        .run(&["exec", &name, "--", "no-such-program"], "")
        .refused();
    assert!(missing.contains("no-such-program"), "{missing}");
    // The size of the terminal arrives a moment after the process has started.
    let script = "n=0; until stty size 2>&1 | grep [1-9] || [ $n = 50 ]; do n=$((n+1)); sleep 0.1; done; tty; echo done";
    let output = kubectl
        .in_terminal(33, 77, &["exec", "-it", &name, "--", "sh", "-c", script])
        .ok();
    assert!(
        output.contains("33 77") && output.contains("/dev/pts/") && output.contains("done"),
        "{output}"
    );
}

fn attach(kubectl: &Kubectl) {
    kubectl.apply(&manifests::shell(
        "speaker",
        "while true; do echo spoken; sleep 1; done",
    ));
    kubectl.ok("wait --for=condition=Ready pod/speaker --timeout=60s");
    let mut attached = kubectl.start("attach speaker");
    attached.line(DEADLINE, |line| line == "spoken");
    drop(attached);
    kubectl.ok("delete pod speaker --wait=false");
}

fn copy(kubectl: &Kubectl) {
    let folder = std::env::temp_dir().join(format!("corten-copy-{}-{}", std::process::id(), kubectl.minor()));
    std::fs::create_dir_all(folder.join("there/deep")).expect("make a folder");
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(folder.join("there/deep/file"), &content).expect("write a file");
    let name = first_pod(kubectl, "web");
    let (there, back) = (folder.join("there"), folder.join("back"));
    kubectl
        .run(
            &["cp", &there.to_string_lossy(), &format!("{name}:/tmp/copied")],
            "",
        )
        .ok();
    assert_eq!(
        kubectl
            .ok(&format!("exec {name} -- wc -c /tmp/copied/deep/file"))
            .split(' ')
            .next(),
        Some("800000")
    );
    kubectl
        .run(
            &["cp", &format!("{name}:/tmp/copied"), &back.to_string_lossy()],
            "",
        )
        .ok();
    let same = std::fs::read(back.join("deep/file")).is_ok_and(|copied| copied == content);
    std::fs::remove_dir_all(&folder).expect("remove the folder");
    assert!(same, "the file came back changed");
}

fn port_forward(kubectl: &Kubectl) {
    let name = first_pod(kubectl, "web");
    for target in [format!("pod/{name} :8080"), "service/web :80".to_owned()] {
        let mut forward: Running = kubectl.start(&format!("port-forward {target}"));
        let line = forward.line(DEADLINE, |line| line.starts_with("Forwarding from 127.0.0.1:"));
        let port = line
            .trim_start_matches("Forwarding from 127.0.0.1:")
            .split(' ')
            .next()
            .expect("a port")
            .to_owned();
        for _ in 0..5 {
            let answer = load::get(&format!("127.0.0.1:{port}")).expect("an answer through the tunnel");
            assert!(answer.contains(" v1"), "{answer}");
        }
    }
}

fn run(kubectl: &Kubectl) {
    let once =
        kubectl.line("run once --image=corten.dev/test-busybox:1 --restart=Never --command -- echo done");
    assert!(once.ok().contains("pod/once created"));
    eventually("the Pod has succeeded", DEADLINE, || {
        let phase = kubectl.ok("get pod once -o jsonpath={.status.phase}");
        expect(phase == "Succeeded", || phase.clone())
    });
    assert_eq!(kubectl.ok("logs once"), "done\n");
    let attached = kubectl.run(
        &[
            "run",
            "typed",
            "--image=corten.dev/test-busybox:1",
            "--restart=Never",
            "--rm",
            "-i",
            "--command",
            "--",
            "cat",
        ],
        "through\n",
    );
    assert!(
        attached.succeeded() && attached.stdout.contains("through"),
        "{attached}"
    );
    kubectl.line("get pod typed").refused();
}

fn wait(kubectl: &Kubectl) {
    kubectl.ok("wait --for=condition=Available deployment/web --timeout=60s");
    kubectl.ok("wait --for=jsonpath={.status.phase}=Succeeded pod/once --timeout=10s");
    kubectl
        .line("wait --for=condition=Ready pod/once --timeout=1s")
        .refused();
    kubectl.ok("delete pod once --wait=false");
    kubectl.ok("wait --for=delete pod/once --timeout=60s");
}

fn delete(kubectl: &Kubectl) {
    // Graceful: the Pod gets its SIGTERM and its time.
    let mut slow = manifests::shell(
        "slow",
        "trap 'sleep 2; exit 0' TERM; while true; do sleep 0.1; done",
    );
    slow["spec"]["terminationGracePeriodSeconds"] = 20.into();
    kubectl.apply(&slow);
    kubectl.ok("wait --for=condition=Ready pod/slow --timeout=60s");
    let started = std::time::Instant::now();
    assert!(kubectl.ok("delete pod slow").contains("pod \"slow\" deleted"));
    let took = started.elapsed();
    assert!(
        took > Duration::from_millis(1500) && took < Duration::from_secs(15),
        "{took:?}"
    );
    // Forced: the object is gone at once, whatever the container does.
    let mut stubborn = manifests::shell("stubborn", "trap '' TERM; while true; do sleep 0.1; done");
    stubborn["spec"]["terminationGracePeriodSeconds"] = 100.into();
    kubectl.apply(&stubborn);
    kubectl.ok("wait --for=condition=Ready pod/stubborn --timeout=60s");
    let started = std::time::Instant::now();
    assert!(
        kubectl
            .ok("delete pod stubborn --force --grace-period=0")
            .contains("force deleted")
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    // Orphaned: the ReplicaSet and its Pods stay.
    let before = first_pod(kubectl, "web");
    kubectl.ok("delete deployment web --cascade=orphan");
    kubectl.line("get deployment web").refused();
    let left = kubectl.json("replicasets -l app=web");
    let left = left["items"].as_array().expect("items");
    assert!(
        left.iter()
            .any(|set| set["metadata"]["ownerReferences"].is_null() && set["spec"]["replicas"] == 2),
        "{left:?}"
    );
    kubectl.ok(&format!("get pod {before}"));
    // By label, and now with everything below.
    kubectl.ok("delete replicasets -l app=web");
    eventually("the Pods are collected", DEADLINE, || {
        let pods = kubectl.pods("app=web")?;
        expect(pods.is_empty(), || format!("{} Pods", pods.len()))
    });
    kubectl.ok("delete deployment made --cascade=foreground");
    kubectl.line("get deployment made").refused();
    assert_eq!(kubectl.pods("app=made").expect("listed").len(), 0);
    assert!(kubectl.ok("delete pod missing --ignore-not-found").is_empty());
    // A namespace goes with all that is in it.
    let namespace = format!("gone-{}", kubectl.minor());
    kubectl.ok(&format!("create namespace {namespace}"));
    let inside = kubectl.namespace(&namespace);
    inside.apply(&manifests::list(&[
        manifests::web("web", 1),
        manifests::service("web"),
    ]));
    inside.ok("rollout status deployment/web --timeout=60s");
    kubectl.ok(&format!("delete namespace {namespace}"));
    kubectl.line(&format!("get namespace {namespace}")).refused();
}

#[track_caller]
fn first_pod(kubectl: &Kubectl, app: &str) -> String {
    let pods = kubectl.pods(&format!("app={app}")).expect("the Pods are listed");
    let live = pods
        .iter()
        .find(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    live.and_then(|pod| pod["metadata"]["name"].as_str())
        .unwrap_or_else(|| panic!("no Pod of {app}"))
        .to_owned()
}
