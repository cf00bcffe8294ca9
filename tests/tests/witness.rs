//! Two servers and a witness: whichever of the three dies, writes go on; who stops itself is started again, and says why.

use std::time::Duration;

use corten_tests::faults::processes_with;
use corten_tests::servers::{NAMESPACE, Servers};
use corten_tests::wait::expect;
use corten_tests::{Cluster, command, eventually};
use serde_json::json;

const HEAL: Duration = Duration::from_secs(60);

#[test]
fn any_of_two_servers_and_a_witness_may_die() {
    let cluster = Cluster::create_with("witness", 2, 0, &["--witness"]);
    let servers = Servers::of(&cluster).expect("credentials");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let list = || {
        cluster
            .corten(&["member", "list", "--kubeconfig", &path(&cluster)], HEAL)
            .ok()
    };
    let table = list();
    let line = table
        .lines()
        .find(|line| line.contains("witness"))
        .expect("a witness");
    assert!(
        line.contains("healthy") && line.matches("witness").count() == 2,
        "{table}"
    );

    let write = |servers: &Servers, server: usize, name: &str| {
        let object = json!({ "metadata": { "name": name, "namespace": NAMESPACE } }).to_string();
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
        let answer = runtime.block_on(servers.client(server).send("POST", &path, &object));
        assert!(matches!(&answer, Ok((201, _))), "{name}: {answer:?}");
    };
    let namespace = json!({ "metadata": { "name": NAMESPACE } }).to_string();
    let made = runtime.block_on(servers.client(0).send("POST", "/api/v1/namespaces", &namespace));
    assert!(matches!(&made, Ok((201, _))), "{made:?}");
    for (victim, other) in [("witness", 0), ("server-0", 1), ("server-1", 0)] {
        cluster.fault("kill", victim);
        write(&servers, other, &format!("without-{victim}"));
        cluster.fault("start", victim);
        runtime
            .block_on(servers.healthy(2, HEAL))
            .expect("all are well again");
    }

    // New authorities: a witness that is away is waited for, and then follows like a server.
    let admin = cluster.host_dir("server-0").join("admin.kubeconfig");
    let rotate = |more: &[&str]| {
        let admin = admin.display().to_string();
        let words = [&["certificate", "rotate-ca", "--kubeconfig", &admin], more].concat();
        cluster.corten(&words, HEAL)
    };
    cluster.fault("kill", "witness");
    rotate(&[]).ok();
    let refused = rotate(&["--finish"]).refused();
    assert!(
        refused.contains("members") && refused.contains("witness"),
        "{refused}"
    );
    cluster.fault("start", "witness");
    eventually("the witness shows a new certificate", HEAL, || {
        let finished = rotate(&["--finish"]);
        expect(finished.succeeded(), || finished.to_string())
    });
    let pki = |name: &str, file: &str| std::fs::read_to_string(cluster.host_dir(name).join("pki").join(file));
    eventually("it believes the new one alone", HEAL, || {
        expect(pki("witness", "peer-ca-old.crt").is_err(), || {
            "the old one is there".into()
        })
    });
    let newest = |name: &str| pki(name, "peer-ca.crt").expect("an authority");
    assert_eq!(newest("witness"), newest("server-0"));
    std::fs::copy(&admin, cluster.kubeconfig()).expect("handed out");
    let servers = Servers::of(&cluster).expect("credentials");
    cluster.fault("kill", "witness");
    cluster.fault("start", "witness");
    runtime
        .block_on(servers.healthy(2, HEAL))
        .expect("it is found again");

    // What a process that cannot go on does: its keeper starts it again.
    let data = cluster.host_dir("server-1");
    let process = format!("server --data-dir {}", data.display());
    let aborted = processes_with(&process)[0].0;
    command::signal(aborted, "ABRT");
    std::fs::write(data.join("store/halted"), "1767225600\nwrite the log")
        .expect("a note, as the store leaves it");
    eventually("it is started again", HEAL, || {
        let now = processes_with(&process);
        expect(now.first().is_some_and(|(pid, _)| *pid != aborted), || {
            format!("{now:?}")
        })
    });
    runtime
        .block_on(servers.healthy(2, HEAL))
        .expect("it is well again");
    let table = list();
    let line = table
        .lines()
        .find(|line| line.contains("server-1"))
        .expect("a server");
    assert!(line.ends_with("ago: write the log"), "{table}");
    write(&servers, 1, "after-all");
}

fn path(cluster: &Cluster) -> String {
    cluster.kubeconfig().to_string_lossy().into_owned()
}
