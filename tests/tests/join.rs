//! Machines join with a token and keep their identity: what is refused, what renews itself, what goes on when a server dies.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use corten_tests::api::Api;
use corten_tests::command::Running;
use corten_tests::wait::expect;
use corten_tests::{Cases, Cluster, Finished, eventually, manifests, within};

const LIMIT: Duration = Duration::from_secs(30);

/// A machine that knows nothing but an address and a token.
struct Machine<'a> {
    cluster: &'a Cluster,
    dir: PathBuf,
}

impl<'a> Machine<'a> {
    fn new(cluster: &'a Cluster, name: &str) -> Machine<'a> {
        Machine {
            cluster,
            dir: cluster.dir().join(format!("machine-{name}")),
        }
    }

    fn join(&self, node: &str, token: &str) -> Finished {
        let url = format!("https://{}:6443", self.cluster.ip("server-0"));
        let dir = self.dir.to_string_lossy().into_owned();
        let words = [
            "agent",
            "--only-join",
            "--server",
            &url,
            "--token",
            token,
            "--node-name",
            node,
            "--data-dir",
            &dir,
        ];
        self.cluster.corten(&words, LIMIT)
    }

    fn has_identity(&self) -> bool {
        self.dir.join("identity/node.pem").exists()
    }
}

fn token(cluster: &Cluster, flags: &[&str]) -> String {
    let kubeconfig = cluster.kubeconfig().to_string_lossy().into_owned();
    let words = [&["token", "create", "--kubeconfig", &kubeconfig], flags].concat();
    cluster.corten(&words, LIMIT).ok().trim().to_owned()
}

#[test]
fn machines_join_with_a_token() {
    let cluster = Cluster::create("join", 1);
    let cluster = &cluster;
    let mut cases = Cases::new();
    let good = token(cluster, &["--description", "for the test"]);

    cases.case("a machine that does not know the CA joins", || {
        let machine = Machine::new(cluster, "a");
        machine.join("fresh", &good).ok();
        assert!(machine.has_identity());
        // It is a node and no more.
        let requests = cluster.kubectl().json("csr");
        let all = requests["items"].as_array().expect("a list");
        let own = all.iter().find(|csr| {
            csr["status"]["certificate"].is_string()
                && csr["spec"]["username"]
                    .as_str()
                    .is_some_and(|user| user.starts_with("system:bootstrap:"))
        });
        assert_eq!(
            own.expect("its request")["spec"]["signerName"],
            "kubernetes.io/kube-apiserver-client-kubelet"
        );
        // The second time it needs no token.
        machine.join("fresh", "").ok();
        let error = machine.join("other", &good).refused();
        assert!(
            error.contains("is the identity of \"system:node:fresh\""),
            "{error}"
        );
    });
    let refused = |name: &str, node: &str, token: &str, want: &str| {
        let machine = Machine::new(cluster, name);
        let error = machine.join(node, token).refused();
        assert!(error.contains(want), "{want:?} is not in {error}");
        assert!(!machine.has_identity());
    };
    cases.case("a wrong token", || {
        let (ca, _) = good.split_once("::").expect("two parts");
        let wrong = format!("{ca}::aaaaaa.aaaaaaaaaaaaaaaa");
        refused("b", "b", &wrong, "the token is not known to this cluster");
        let secret = good.rsplit_once('.').expect("two parts").0;
        refused(
            "b",
            "b",
            &format!("{secret}.aaaaaaaaaaaaaaaa"),
            "the token is not known to this cluster",
        );
    });
    cases.case("an expired token", || {
        let short = token(cluster, &["--ttl", "1s"]);
        std::thread::sleep(Duration::from_millis(2100));
        let id = &short[66..72];
        // The cleaner may have been faster.
        let machine = Machine::new(cluster, "c");
        let error = machine.join("c", &short).refused();
        assert!(
            error.contains(&format!("the token {id} has expired at"))
                || error.contains("is not known to this cluster"),
            "{error}"
        );
    });
    cases.case("a token of another cluster", || {
        let (ca, secret) = good.split_once("::").expect("two parts");
        let other = format!(
            "{}{}::{secret}",
            &ca[1..],
            if ca.starts_with('0') { "1" } else { "0" }
        );
        refused(
            "d",
            "d",
            &other,
            "is not the cluster that the token is for: the token pins the CA",
        );
        refused("d", "d", secret, "has no CA-HASH");
    });
    cases.case("a token for servers", || {
        refused(
            "e",
            "e",
            &token(cluster, &["--server"]),
            "is for servers: make one for nodes",
        );
    });
    cases.case("a name that a living node has", || {
        refused("f", "node-0", &good, "give this one another with --node-name");
    });
    cases.case("a token for one machine", || {
        let once = token(cluster, &["--single-use"]);
        Machine::new(cluster, "g").join("first", &once).ok();
        refused(
            "h",
            "second",
            &once,
            "is good for one machine and \"first\" has joined with it",
        );
    });
    cases.case("tokens are listed and deleted", || {
        let kubeconfig = cluster.kubeconfig().to_string_lossy().into_owned();
        let verb = |words: &[&str]| {
            cluster.corten(
                &[&["token"], words, &["--kubeconfig", &kubeconfig]].concat(),
                LIMIT,
            )
        };
        let list = verb(&["list"]).ok();
        assert!(
            list.starts_with("TOKEN") && list.contains("for the test"),
            "{list}"
        );
        let id = &good[66..72];
        assert!(verb(&["delete", id]).ok().contains("deleted"));
        assert!(verb(&["delete", id]).refused().contains("there is no token"));
        refused("i", "i", &good, "the token is not known to this cluster");
    });
    cases.case("a server that is not there", || {
        let machine = Machine::new(cluster, "j");
        let dir = machine.dir.to_string_lossy().into_owned();
        let url = format!("https://{}:1", cluster.ip("server-0"));
        let words = [
            "agent",
            "--only-join",
            "--server",
            &url,
            "--token",
            &good,
            "--node-name",
            "j",
            "--data-dir",
            &dir,
        ];
        let error = cluster.corten(&words, LIMIT).refused();
        assert!(error.contains("is not there"), "{error}");
    });
    cases.finish();
}

/// Twice a certificate's life: everything is renewed at least twice.
const LIFE: &str = "60s";
const WATCHED: Duration = Duration::from_secs(130);

#[test]
fn certificates_of_minutes_renew_under_load_without_a_failed_request() {
    let lifetime = format!("--server-arg=--certificate-lifetime={LIFE}");
    let cluster = Cluster::create_with("renew", 1, 1, &[&lifetime]);
    cluster.load_images();
    let kubectl = cluster.kubectl();
    kubectl.apply(&manifests::web("web", 1));
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let pod = kubectl.pods("app=web").expect("listed")[0]["metadata"]["name"].clone();
    let pod = pod.as_str().expect("a name").to_owned();

    // Every request over a connection of its own: each sees the certificate of that moment.
    let api = Arc::new(RwLock::new(Api::admin(&cluster)));
    let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (api, stop, requests) = (api.clone(), stop.clone(), requests.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let now = api.read().expect("no client panics").clone();
                    let answer = now.get("/api/v1/nodes");
                    assert_eq!(answer.code, 200);
                    let node = &answer.json()["items"][0];
                    let conditions = node["status"]["conditions"]
                        .as_array()
                        .cloned()
                        .unwrap_or_default();
                    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
                    assert_eq!(ready.map(|ready| ready["status"].clone()), Some("True".into()));
                    requests.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            })
        })
        .collect();
    // A stream that is open all the time lives through the renewal of what it rides on.
    let ticks = "i=0; while true; do echo tick $i; i=$((i+1)); sleep 1; done";
    let mut exec = kubectl.command(&["exec", &pod, "--", "sh", "-c", ticks]);
    let mut stream = Running::start(&mut exec);
    let started = Instant::now();
    let mut asked = 0;
    let mut rollover = Rollover::Before;
    while started.elapsed() < WATCHED {
        rollover = rollover.step(&cluster, started.elapsed(), &api);
        assert!(kubectl.line(&format!("logs {pod} --tail=1")).succeeded());
        asked += 1;
        std::thread::sleep(Duration::from_secs(1));
    }
    stream.line(Duration::from_secs(5), |line| {
        line.strip_prefix("tick ")
            .and_then(|n| n.parse::<u64>().ok())
            .is_some_and(|n| n > 90)
    });
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request failed");
    }
    assert_eq!(rollover, Rollover::Finished);
    let api = api.read().expect("no client panicked").clone();
    let metrics = String::from_utf8_lossy(&api.get("/metrics").body).into_owned();
    let refused = |line: &&str| line.contains("apiserver_request_total") && line.contains("code=\"401\"");
    assert_eq!(metrics.lines().find(refused), None);
    let log = |host: &str| std::fs::read_to_string(cluster.dir().join(format!("{host}.log"))).expect("a log");
    let renewed = |host: &str, text: &str| log(host).lines().filter(|line| line.contains(text)).count();
    let (server, node) = (
        renewed("server-0", "the server's certificate was renewed"),
        renewed("node-0", "the node's certificate was renewed"),
    );
    println!(
        "{} requests and {asked} logs in {:?}: the server's certificate was renewed {server} times, the node's {node}",
        requests.load(Ordering::Relaxed),
        started.elapsed()
    );
    assert!(server >= 2 && node >= 2, "{server} and {node} renewals");
    assert_eq!(renewed("node-0", "was not renewed"), 0);
}

/// A new authority takes over from the old one while all that runs.
#[derive(Debug, PartialEq, Eq)]
enum Rollover {
    Before,
    Both,
    Finished,
}

impl Rollover {
    /// Between two renewals, and between the next two.
    const ROTATE: Duration = Duration::from_secs(20);
    const FINISH: Duration = Duration::from_secs(45);

    fn step(self, cluster: &Cluster, elapsed: Duration, api: &RwLock<Api>) -> Rollover {
        let own = cluster.host_dir("server-0").join("admin.kubeconfig");
        let kubeconfig = own.to_string_lossy().into_owned();
        let verb = |flags: &[&str]| {
            let words = [&["certificate", "rotate-ca", "--kubeconfig", &kubeconfig], flags].concat();
            cluster.corten(&words, LIMIT).ok()
        };
        let root_ca = || {
            let map = cluster.kubectl().json("configmap kube-root-ca.crt");
            map["data"]["ca.crt"].as_str().unwrap_or_default().to_owned()
        };
        let published = |wanted: usize| {
            eventually("Pods are told whom to trust", LIMIT, || {
                let found = root_ca().matches("BEGIN CERTIFICATE").count();
                expect(found == wanted, || format!("{found} authorities"))
            });
        };
        match self {
            Rollover::Before if elapsed > Rollover::ROTATE => {
                // Clients of before do not know of it, and go on.
                let told = verb(&[]);
                assert_eq!(told.matches("certificate authority").count(), 2, "{told}");
                published(2);
                Rollover::Both
            }
            Rollover::Both if elapsed > Rollover::FINISH => {
                let beside = own.with_extension("copy");
                std::fs::copy(&own, &beside).expect("copied");
                std::fs::rename(&beside, cluster.kubeconfig()).expect("handed out");
                let old = std::mem::replace(
                    &mut *api.write().expect("no client panicked"),
                    Api::admin(cluster),
                );
                // Whoever has just read the old one has its answer before that is void.
                std::thread::sleep(Duration::from_secs(2));
                let told = verb(&["--finish"]);
                assert_eq!(told.matches("certificate authority").count(), 1, "{told}");
                published(1);
                let answer = old.connect().and_then(|mut connection| {
                    connection.send("GET", "/api/v1/nodes", "application/json", b"")
                });
                assert!(
                    answer.is_err(),
                    "the old authority is trusted no more: {answer:?}"
                );
                Rollover::Finished
            }
            other => other,
        }
    }
}

#[test]
fn a_node_whose_server_dies_goes_on_with_another() {
    let cluster = Cluster::create_with("servers", 3, 1, &[]);
    cluster.load_images();
    let kubectl = cluster.kubectl();
    let servers = cluster.host_dir("node-0").join("identity/servers");
    eventually("the node knows all servers", LIMIT, || {
        let list = std::fs::read_to_string(&servers).unwrap_or_default();
        expect(list.lines().count() == 3, || list.clone())
    });
    kubectl.apply(&manifests::web("web", 1));
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let uid = |pods: &[serde_json::Value]| {
        (
            pods[0]["metadata"]["uid"].clone(),
            pods[0]["status"]["containerStatuses"][0]["containerID"].clone(),
        )
    };
    let before = uid(&kubectl.pods("app=web").expect("listed"));
    let lease = || -> Result<String, String> {
        let lease = kubectl.try_json("lease node-0 -n kube-node-lease")?;
        Ok(lease["spec"]["renewTime"].to_string())
    };
    // The server that kubectl asks stays; each of the others dies and comes back.
    for victim in ["server-1", "server-2"] {
        let old = lease().expect("a lease");
        cluster.fault("kill", victim);
        let killed = Instant::now();
        kubectl.ok("annotate pod -l app=web --overwrite seen=no");
        let took = within("the node renews its lease", Duration::from_secs(15), || {
            expect(lease()? != old, || "not yet".into())
        });
        println!(
            "{victim} was killed; the lease was renewed after {took:?} ({:?} since the kill)",
            killed.elapsed()
        );
        assert_eq!(
            uid(&kubectl.pods("app=web").expect("listed")),
            before,
            "its Pods are untouched"
        );
        cluster.fault("start", victim);
        eventually("the tunnel to it is back", LIMIT, || {
            let ready = kubectl.line(&format!(
                "--server https://{}:6443 --insecure-skip-tls-verify logs -l app=web",
                cluster.ip(victim)
            ));
            expect(ready.succeeded(), || ready.stderr.clone())
        });
    }
}
