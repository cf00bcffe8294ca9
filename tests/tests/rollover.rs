//! New authorities for three servers while they are under load: nobody notices, and who was away for a restart finds the
//! others again, before the old ones are dropped and after.

use std::time::Duration;

use corten_tests::api::Api;
use corten_tests::servers::{Load, NAMESPACE, Servers};
use corten_tests::wait::expect;
use corten_tests::{Cluster, Finished, eventually};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

fn certificate(cluster: &Cluster, words: &[&str]) -> Finished {
    let own = cluster.host_dir("server-0").join("admin.kubeconfig");
    let own = own.display().to_string();
    let words = [&["certificate"], words, &["--kubeconfig", &own]].concat();
    cluster.corten(&words, LIMIT)
}

/// How many of each kind a table of `corten certificate` names.
fn authorities(table: &str) -> [usize; 3] {
    [
        "certificate authority ",
        "peer authority ",
        "front-proxy authority ",
    ]
    .map(|kind| table.lines().filter(|line| line.starts_with(kind)).count())
}

/// A server goes and comes back: it has to open its connections to the others anew, and they theirs to it.
async fn restart(cluster: &Cluster, servers: &Servers, number: usize) {
    let name = &servers.names[number];
    cluster.fault("kill", name);
    cluster.fault("start", name);
    servers.healthy(3, LIMIT).await.expect("it is back");
}

#[test]
fn three_servers_change_their_authorities_under_load() {
    let cluster = Cluster::create_with("rollover", 3, 0, &[]);
    cluster.kubectl().ok(&format!("create namespace {NAMESPACE}"));
    let before = Api::of_kubeconfig(&cluster.kubeconfig()).expect("credentials");
    let servers = Servers::of(&cluster).expect("credentials");
    let old = std::fs::read_to_string(cluster.host_dir("server-0").join("pki/peer-ca.crt")).expect("a CA");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        // Whoever has credentials of before goes on until the end of the overlap.
        let load = Load::start(&servers, 2, 2);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let table = certificate(&cluster, &["rotate-ca"]).ok();
        assert_eq!(authorities(&table), [2, 2, 2], "{table}");
        let again = certificate(&cluster, &["rotate-ca"]).refused();
        assert!(again.contains("finish that first"), "{again}");
        restart(&cluster, &servers, 1).await;
        let report = load.finish().await;
        println!("with both: {report:?}");
        assert!(
            report.writes > 0 && report.broken.is_empty(),
            "{:?}",
            report.broken
        );

        // New credentials are handed out, and the old authorities go.
        let own = cluster.host_dir("server-0").join("admin.kubeconfig");
        std::fs::copy(own, cluster.kubeconfig()).expect("handed out");
        let servers = Servers::of(&cluster).expect("credentials");
        let load = Load::start(&servers, 2, 2);
        let table = eventually("everybody shows new certificates", LIMIT, || {
            let finished = certificate(&cluster, &["rotate-ca", "--finish"]);
            expect(finished.succeeded(), || finished.to_string()).map(|()| finished.stdout)
        });
        assert_eq!(authorities(&table), [1, 1, 1], "{table}");
        restart(&cluster, &servers, 2).await;
        let report = load.finish().await;
        println!("with the new alone: {report:?}");
        assert!(
            report.writes > 0 && report.broken.is_empty(),
            "{:?}",
            report.broken
        );
    });
    for name in &servers.names {
        let pki = cluster.host_dir(name).join("pki");
        let read = |file: &str| std::fs::read_to_string(pki.join(file)).unwrap_or_default();
        assert_ne!(read("peer-ca.crt"), old);
        assert!(!pki.join("peer-ca-old.crt").exists() && !pki.join("front-proxy-ca-old.crt").exists());
    }
    let told: Value = cluster
        .kubectl()
        .json("-n kube-system configmap extension-apiserver-authentication");
    let bundle = told["data"]["requestheader-client-ca-file"]
        .as_str()
        .unwrap_or_default();
    let front = cluster.host_dir("server-0").join("pki/front-proxy-ca.crt");
    assert_eq!(bundle, std::fs::read_to_string(front).expect("a CA"));
    let refused = before
        .connect()
        .and_then(|mut connection| connection.send("GET", "/api/v1/nodes", "application/json", b""));
    assert!(
        refused.is_err(),
        "the old authority is trusted no more: {refused:?}"
    );
}
