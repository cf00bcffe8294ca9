//! Three servers: kubectl notices nothing while one server after the other is replaced, and a leader that dies under load
//! takes no acknowledged write, no event and no fresh read with it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corten_tests::Cluster;
use corten_tests::servers::{Balancer, Load, NAMESPACE, Servers, Watchers};

const HEAL: Duration = Duration::from_secs(60);

#[test]
fn kubectl_goes_on_while_every_server_is_replaced_and_the_leader_killed() {
    let cluster = Cluster::create_with("ha", 3, 0, &[]);
    let servers = Servers::of(&cluster).expect("credentials");
    let balancer = Balancer::start(&servers);
    let kubectl = balancer.kubectl(&cluster);
    kubectl.ok(&format!("create namespace {NAMESPACE}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");

    // kubectl, one command after the other, while servers are replaced in order.
    let (done, commands) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _stop = StopWith(&done);
            for name in &servers.names {
                // SIGTERM, as a machine that is taken out of service in order; then its disk is gone, and it joins anew.
                cluster.fault("stop", name);
                let other = servers
                    .names
                    .iter()
                    .find(|other| *other != name)
                    .expect("another");
                let own = cluster.host_dir(other).join("admin.kubeconfig");
                let words = ["member", "remove", name, "--kubeconfig", &own.to_string_lossy()];
                cluster.corten(&words, Duration::from_secs(30)).ok();
                std::fs::remove_dir_all(cluster.host_dir(name)).expect("remove the data");
                cluster.fault("start", name);
                runtime
                    .block_on(servers.healthy(3, HEAL))
                    .expect("it votes again");
            }
        });
        while !done.load(Ordering::SeqCst) {
            let turn = commands.fetch_add(1, Ordering::SeqCst);
            let name = format!("replaced-{turn}");
            kubectl.ok(&format!(
                "-n {NAMESPACE} create configmap {name} --from-literal=turn={turn}"
            ));
            kubectl.ok(&format!("-n {NAMESPACE} get configmap {name} -o name"));
        }
    });
    let commands = commands.load(Ordering::SeqCst);
    println!("{commands} times two commands while three servers were replaced");
    let list = kubectl.ok(&format!("-n {NAMESPACE} get configmaps -o name"));
    let there = list.lines().filter(|line| line.contains("replaced-")).count();
    assert_eq!(there, commands, "every object is there");

    // kill -9 of the leader under writes, reads and watches.
    runtime.block_on(async {
        let leader = servers.healthy(3, HEAL).await.expect("three servers");
        let (load, watchers) = (Load::start(&servers, 4, 3), Watchers::start(&servers, 12));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(load.writes() > 0, "writes go on");
        let killed = Instant::now();
        cluster.fault("kill", &leader);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (writes, reads) = load.gaps(killed, killed + Duration::from_secs(3));
        println!("leader killed: {writes:?} without writes, {reads:?} without reads");
        assert!(writes < Duration::from_millis(2500), "{writes:?} without writes");
        cluster.fault("start", &leader);
        servers.healthy(3, HEAL).await.expect("it is back");
        let report = load.finish().await;
        let (broken, moves) = watchers.finish().await;
        println!("{report:?}; watches moved {moves} times");
        assert!(
            report.broken.is_empty() && broken.is_empty(),
            "{:?} {broken:?}",
            report.broken
        );
        assert!(moves > 0, "watchers of the dead server moved");
    });
}

/// Says that it is over, also when a panic ended it.
struct StopWith<'a>(&'a AtomicBool);

impl Drop for StopWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
