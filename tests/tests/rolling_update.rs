//! A rolling update under constant load through the Service loses no request.

use std::time::Duration;

use corten_tests::load::Load;
use corten_tests::wait::expect;
use corten_tests::{Cluster, eventually, manifests};

#[test]
fn no_request_fails_while_a_deployment_rolls() {
    let cluster = Cluster::with_images("roll", 2);
    let kubectl = cluster.kubectl();
    // From inside, through the ClusterIP: one line for each request that failed.
    let script = "while true; do timeout 5 wget -q -O /dev/null http://$0/ || echo failed $(date); done";
    kubectl.apply(&manifests::list(&[
        manifests::web("web", 3),
        manifests::service("web"),
    ]));
    kubectl.ok("rollout status deployment/web --timeout=60s");
    let service = kubectl.json("service web");
    let addresses = cluster.node_ports("web");
    let ip = service["spec"]["clusterIP"].as_str().expect("a clusterIP");
    kubectl.apply(&manifests::shell("client", &script.replace("$0", ip)));
    kubectl.ok("wait --for=condition=Ready pod/client --timeout=60s");

    let load = Load::start(&addresses, 4, Duration::from_millis(10));
    kubectl.ok("set image deployment/web web=corten.dev/test-web:2");
    kubectl.ok("rollout status deployment/web --timeout=120s");
    eventually("only the new version answers", Duration::from_secs(60), || {
        let before = load.so_far();
        std::thread::sleep(Duration::from_secs(1));
        let after = load.so_far();
        let old = after.answers.iter().filter(|(body, _)| body.ends_with("v1"));
        let still = old
            .filter(|(body, count)| before.answers.get(*body) != Some(*count))
            .count();
        expect(still == 0, || format!("{still} old Pods still answer"))
    });
    kubectl.ok("rollout undo deployment/web");
    kubectl.ok("rollout status deployment/web --timeout=120s");
    let report = load.stop();
    println!("{} requests, slowest {:?}", report.total(), report.slowest);
    assert!(report.total() > 500, "the load was no load: {report:?}");
    assert!(
        report.answers.keys().any(|body| body.ends_with("v2")),
        "{:?}",
        report.answers
    );
    assert!(
        report.failures.is_empty(),
        "{} of {} failed: {:?}",
        report.failures.len(),
        report.total(),
        { report.failures.iter().take(10).collect::<Vec<_>>() }
    );
    assert_eq!(kubectl.ok("logs client"), "", "requests from inside failed");
}
