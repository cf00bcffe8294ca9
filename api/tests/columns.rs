//! What `kubectl get` and `kubectl get -o wide` show: the exact cells of each kind.

use corten_api::table::{self, IncludeObject};
use corten_api::{FieldValidation, registry};
use serde_json::{Value, json};

#[track_caller]
fn check(api_version: &str, kind: &str, object: Value, want: &[(&str, Value)]) {
    let resource = registry()
        .for_api_version(api_version, kind)
        .expect("a served kind");
    let mut object = resource
        .decode(&serde_json::to_vec(&object).unwrap(), FieldValidation::Strict)
        .unwrap()
        .value;
    resource.set_defaults(&mut object);
    let now = "2026-01-01T01:00:00Z".parse().unwrap();
    let names = resource.columns().iter().map(|c| c.name);
    let got: Vec<(&str, Value)> = names.zip(resource.cells(&object, now)).collect();
    assert_eq!(got, want);
}

fn meta(name: &str) -> Value {
    json!({"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:55:00Z"})
}

#[test]
fn workloads() {
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "a", "b": "c"}}, "template": {"metadata": {}, "spec": {"containers": [{"name": "x", "image": "i:1"}, {"name": "y", "image": "j:2"}]}}});
    let tail = |selector: &str| {
        vec![
            ("Age", json!("5m")),
            ("Containers", json!("x,y")),
            ("Images", json!("i:1,j:2")),
            ("Selector", json!(selector)),
        ]
    };
    let mut want = vec![
        ("Name", json!("a")),
        ("Ready", json!("2/3")),
        ("Up-to-date", json!(1)),
        ("Available", json!(2)),
    ];
    want.extend(tail("app=a,b=c"));
    check(
        "apps/v1",
        "Deployment",
        json!({"metadata": meta("a"), "spec": spec, "status": {"replicas": 4, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}}),
        &want,
    );
    let mut want = vec![
        ("Name", json!("a")),
        ("Desired", json!(3)),
        ("Current", json!(3)),
        ("Ready", json!(1)),
    ];
    want.extend(tail("app=a,b=c"));
    check(
        "apps/v1",
        "ReplicaSet",
        json!({"metadata": meta("a"), "spec": spec, "status": {"replicas": 3, "readyReplicas": 1}}),
        &want,
    );
}

#[test]
fn nodes() {
    let mut metadata = meta("n");
    metadata["labels"] = json!({"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "worker"});
    check(
        "v1",
        "Node",
        json!({"metadata": metadata, "spec": {"unschedulable": true}, "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6.1", "containerRuntimeVersion": "containerd://1.6.20"},
        }}),
        &[
            ("Name", json!("n")),
            ("Status", json!("Ready,SchedulingDisabled")),
            ("Roles", json!("control-plane,worker")),
            ("Age", json!("5m")),
            ("Version", json!("v1.36.0")),
            ("Internal-IP", json!("10.0.0.1")),
            ("External-IP", json!("<none>")),
            ("OS-Image", json!("Debian")),
            ("Kernel-Version", json!("6.1")),
            ("Container-Runtime", json!("containerd://1.6.20")),
        ],
    );
    let text = |status: Value| {
        let resource = registry().lookup("", "v1", "nodes").unwrap();
        resource.cells(
            &json!({"status": {"conditions": status}}),
            "2026-01-01T01:00:00Z".parse().unwrap(),
        )[1]
        .clone()
    };
    assert_eq!(text(json!([{"type": "Ready", "status": "Unknown"}])), "NotReady");
    assert_eq!(text(json!([])), "Unknown");
}

#[test]
fn services() {
    let row = |kind: &str, ip: &str, external: &str, ports: &str, selector: &str| {
        vec![
            ("Name", json!("s")),
            ("Type", json!(kind)),
            ("Cluster-IP", json!(ip)),
            ("External-IP", json!(external)),
            ("Port(s)", json!(ports)),
            ("Age", json!("5m")),
            ("Selector", json!(selector)),
        ]
    };
    let service = |spec: Value, status: Value| json!({"metadata": meta("s"), "spec": spec, "status": status});
    let ports = json!([{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]);
    check(
        "v1",
        "Service",
        service(
            json!({"clusterIP": "10.96.0.1", "ports": ports, "selector": {"a": "b"}}),
            json!({}),
        ),
        &row("ClusterIP", "10.96.0.1", "<none>", "80:30080/TCP,53/UDP", "a=b"),
    );
    check(
        "v1",
        "Service",
        service(json!({"clusterIP": "None"}), json!({})),
        &row("ClusterIP", "None", "<none>", "<none>", "<none>"),
    );
    check(
        "v1",
        "Service",
        service(
            json!({"type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{"port": 80}]}),
            json!({}),
        ),
        &row("LoadBalancer", "10.96.0.1", "<pending>", "80/TCP", "<none>"),
    );
    check(
        "v1",
        "Service",
        service(
            json!({"type": "LoadBalancer", "clusterIP": "10.96.0.1", "externalIPs": ["1.2.3.4"], "ports": [{"port": 80}]}),
            json!({"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}]}}),
        ),
        &row("LoadBalancer", "10.96.0.1", "5.6.7.8,1.2.3.4", "80/TCP", "<none>"),
    );
    check(
        "v1",
        "Service",
        service(
            json!({"type": "ExternalName", "externalName": "x.example"}),
            json!({}),
        ),
        &row("ExternalName", "<none>", "x.example", "<none>", "<none>"),
    );
}

#[test]
fn small_kinds() {
    let age = || ("Age", json!("5m"));
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:55:00Z"}, "status": {"phase": "Active"}}),
        &[("Name", json!("a")), ("Status", json!("Active")), age()],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": meta("a"), "data": {"x": "", "y": ""}, "binaryData": {"z": ""}}),
        &[("Name", json!("a")), ("Data", json!(3)), age()],
    );
    check(
        "v1",
        "Secret",
        json!({"metadata": meta("a"), "data": {"x": ""}}),
        &[
            ("Name", json!("a")),
            ("Type", json!("Opaque")),
            ("Data", json!(1)),
            age(),
        ],
    );
    check(
        "v1",
        "ServiceAccount",
        json!({"metadata": meta("a")}),
        &[("Name", json!("a")), ("Secrets", json!(0)), age()],
    );
    check(
        "coordination.k8s.io/v1",
        "Lease",
        json!({"metadata": meta("a"), "spec": {"holderIdentity": "me"}}),
        &[("Name", json!("a")), ("Holder", json!("me")), age()],
    );
    let four: Vec<Value> = (1..5)
        .map(|n| json!({"addresses": [format!("10.0.0.{n}")]}))
        .collect();
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"metadata": meta("a"), "addressType": "IPv4", "endpoints": four, "ports": [{"port": 80}]}),
        &[
            ("Name", json!("a")),
            ("AddressType", json!("IPv4")),
            ("Ports", json!("80")),
            ("Endpoints", json!("10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...")),
            age(),
        ],
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"metadata": meta("a"), "addressType": "IPv4", "endpoints": []}),
        &[
            ("Name", json!("a")),
            ("AddressType", json!("IPv4")),
            ("Ports", json!("<unset>")),
            ("Endpoints", json!("<unset>")),
            age(),
        ],
    );
    let ips: Vec<Value> = (1..5).map(|n| json!({"ip": format!("10.0.0.{n}")})).collect();
    check(
        "v1",
        "Endpoints",
        json!({"metadata": meta("a"), "subsets": [{"addresses": ips, "ports": [{"port": 80}]}]}),
        &[
            ("Name", json!("a")),
            (
                "Endpoints",
                json!("10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more..."),
            ),
            age(),
        ],
    );
    check(
        "v1",
        "Endpoints",
        json!({"metadata": meta("a")}),
        &[("Name", json!("a")), ("Endpoints", json!("<none>")), age()],
    );
    check(
        "v1",
        "Event",
        json!({"metadata": meta("e"), "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"}, "reason": "Started", "type": "Normal", "message": "went well\n",
            "source": {"component": "kubelet", "host": "n"}, "count": 3, "firstTimestamp": "2026-01-01T00:50:00Z", "lastTimestamp": "2026-01-01T00:59:30Z"}),
        &[
            ("Last Seen", json!("30s")),
            ("Type", json!("Normal")),
            ("Reason", json!("Started")),
            ("Object", json!("pod/p")),
            ("Subobject", json!("spec")),
            ("Source", json!("kubelet, n")),
            ("Message", json!("went well")),
            ("First Seen", json!("10m")),
            ("Count", json!(3)),
            ("Name", json!("e")),
        ],
    );
}

#[test]
fn a_table_has_definitions_once() {
    let resource = registry().lookup("", "v1", "configmaps").unwrap();
    let object = json!({"metadata": meta("a"), "data": {"k": "v"}});
    let now = "2026-01-01T01:00:00Z".parse().unwrap();
    let table = table::table(
        resource,
        [&object],
        json!({"resourceVersion": "7"}),
        IncludeObject::Metadata,
        true,
        now,
    );
    assert_eq!(
        (&table["kind"], &table["apiVersion"], &table["metadata"]),
        (
            &json!("Table"),
            &json!("meta.k8s.io/v1"),
            &json!({"resourceVersion": "7"})
        )
    );
    assert_eq!(table["columnDefinitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 1, "5m"]));
    assert_eq!(
        table["rows"][0]["object"],
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta("a")})
    );
    let next = table::table(resource, [&object], json!({}), IncludeObject::None, false, now);
    assert_eq!(
        (&next["columnDefinitions"], next["rows"][0].get("object")),
        (&Value::Null, None)
    );
    assert_eq!(IncludeObject::parse("Sometimes").map_err(|s| s.code), Err(400));
}

#[test]
fn field_selectors() {
    let pods = registry().lookup("", "v1", "pods").unwrap();
    let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": "n", "restartPolicy": "Always"}, "status": {"phase": "Running", "podIP": "10.0.0.1"}});
    let fields = pods.selectable_fields(&pod);
    for (name, want) in [
        ("metadata.name", "p"),
        ("metadata.namespace", "d"),
        ("spec.nodeName", "n"),
        ("spec.hostNetwork", "false"),
        ("status.phase", "Running"),
        ("status.podIP", "10.0.0.1"),
        ("status.nominatedNodeName", ""),
    ] {
        assert_eq!(
            fields.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str()),
            Some(want),
            "{name}"
        );
    }
    let refused = |plural: &str, query: &str| {
        let selector = corten_api::selector::FieldSelector::parse(query).unwrap();
        registry()
            .lookup("", "v1", plural)
            .unwrap()
            .check_field_selector(&selector)
            .map_err(|s| s.message)
    };
    assert_eq!(
        refused("pods", "spec.colour=red"),
        Err("field label not supported: spec.colour".into())
    );
    assert_eq!(
        refused("configmaps", "data.a=b"),
        Err(
            "\"data.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"".into()
        )
    );
    assert_eq!(refused("secrets", "type=Opaque,metadata.name!=a"), Ok(()));
}
