//! The core kinds around quotas and replication, and the warnings about Pods: defaults, invalid objects, updates, columns.

mod common;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const CONTROLLER: Name = ("v1", "ReplicationController");
const TEMPLATE: Name = ("v1", "PodTemplate");
const QUOTA: Name = ("v1", "ResourceQuota");
const LIMITS: Name = ("v1", "LimitRange");
const COMPONENT: Name = ("v1", "ComponentStatus");

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

fn pods() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn pod_defaults() -> Value {
    json!({
        "containers": [{
            "name": "c", "image": "i:1", "imagePullPolicy": "IfNotPresent", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        }],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    })
}

fn controller() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"selector": {"app": "a"}, "template": pods()}})
}

fn quota() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"hard": {"pods": "10", "requests.cpu": "4"}}})
}

fn limits(limit: Value) -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"limits": [limit]}})
}

#[test]
fn names() {
    known_as(CONTROLLER, true, &["rc"], &["scale", "status"]);
    known_as(TEMPLATE, true, &[], &[]);
    known_as(QUOTA, true, &["quota"], &["status"]);
    known_as(LIMITS, true, &["limits"], &[]);
    known_as(COMPONENT, false, &["cs"], &[]);
    assert_eq!(resource(COMPONENT).verbs, ["get", "list"]);
}

#[test]
fn defaults() {
    golden(
        CONTROLLER,
        json!({"metadata": {"name": "a"}, "spec": {"template": pods()}}),
        json!({
            "metadata": {"name": "a", "generation": 1, "labels": {"app": "a"}},
            "spec": {
                "replicas": 1,
                "selector": {"app": "a"},
                "template": {"metadata": {"labels": {"app": "a"}}, "spec": pod_defaults()},
            },
            "status": {"replicas": 0},
        }),
    );
    golden(
        TEMPLATE,
        json!({"metadata": {"name": "a"}, "template": pods()}),
        json!({
            "metadata": {"name": "a", "generation": 1},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": pod_defaults()},
        }),
    );
    golden(
        QUOTA,
        quota(),
        json!({"metadata": {"name": "a"}, "spec": {"hard": {"pods": "10", "requests.cpu": "4"}}, "status": {}}),
    );
    golden(
        LIMITS,
        limits(
            json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}, "default": {"memory": "1Gi"}}),
        ),
        json!({"metadata": {"name": "a"}, "spec": {"limits": [{
            "type": "Container",
            "max": {"cpu": "2"},
            "min": {"memory": "1Mi"},
            "default": {"cpu": "2", "memory": "1Gi"},
            "defaultRequest": {"cpu": "2", "memory": "1Gi"},
        }]}}),
    );
}

#[test]
fn invalid_controllers_and_templates() {
    let base = controller();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(CONTROLLER, &base, pointer, value, want);
    for field in ["replicas", "minReadySeconds"] {
        bad(
            &format!("/spec/{field}"),
            json!(-1),
            &[&format!("spec.{field}|Invalid|Invalid value: -1: {NOT_NEGATIVE}")],
        );
    }
    bad(
        "/spec/template",
        Value::Null,
        &["spec.template|Required|Required value"],
    );
    bad(
        "/spec/selector",
        json!({"app": "b"}),
        &[
            "spec.template.metadata.labels|Invalid|Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ],
    );
    invalid(
        CONTROLLER,
        &json!({"metadata": {"name": "a"}, "spec": {"template": {"metadata": {}, "spec": pods()["spec"]}}}),
        "/spec/replicas",
        json!(1),
        &["spec.selector|Required|Required value"],
    );
    bad(
        "/spec/template/spec/restartPolicy",
        json!("Never"),
        &[
            "spec.template.spec.restartPolicy|NotSupported|Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
    bad(
        "/spec/template/spec/activeDeadlineSeconds",
        json!(1),
        &[
            "spec.template.spec.activeDeadlineSeconds|Forbidden|Forbidden: activeDeadlineSeconds in ReplicationController is not Supported",
        ],
    );
    let template = json!({"metadata": {"name": "a"}, "template": pods()});
    invalid(
        TEMPLATE,
        &template,
        "/template/spec/containers/0/image",
        json!(""),
        &["template.spec.containers[0].image|Required|Required value"],
    );
    invalid(
        TEMPLATE,
        &template,
        "/template/spec/restartPolicy",
        json!("Maybe"),
        &[
            "template.spec.restartPolicy|NotSupported|Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ],
    );
}

#[test]
fn invalid_quotas() {
    let base = quota();
    let bad = |pointer: &str, value: Value, want: &[&str]| invalid(QUOTA, &base, pointer, value, want);
    bad(
        "/spec/hard",
        json!({"count/jobs.batch": "1", "requests.nvidia.com/gpu": "1", "hugepages-2Mi": "1"}),
        &[],
    );
    bad(
        "/spec/hard",
        json!({"disk": "1"}),
        &[
            "spec.hard[disk]|Invalid|Invalid value: \"disk\": must be a standard resource type or fully qualified",
            "spec.hard[disk]|Invalid|Invalid value: \"disk\": must be a standard resource for quota",
        ],
    );
    bad(
        "/spec/hard",
        json!({"storage": "1"}),
        &["spec.hard[storage]|Invalid|Invalid value: \"storage\": must be a standard resource for quota"],
    );
    bad(
        "/spec/hard",
        json!({"pods": "-1"}),
        &[&format!(
            "spec.hard[pods]|Invalid|Invalid value: \"-1\": {NOT_NEGATIVE}"
        )],
    );
    bad(
        "/spec/hard",
        json!({"pods": "500m"}),
        &["spec.hard[pods]|Invalid|Invalid value: \"500m\": must be an integer"],
    );
    bad(
        "/spec/hard",
        json!({"a b/c": "1"}),
        &[&format!(
            "spec.hard[a b/c]|Invalid|Invalid value: \"a b/c\": prefix part {DNS_SUBDOMAIN}"
        )],
    );
    bad(
        "/spec/scopes",
        json!(["Nice"]),
        &["spec.scopes|Invalid|Invalid value: [\"Nice\"]: unsupported scope"],
    );
    bad(
        "/spec/scopes",
        json!(["BestEffort"]),
        &["spec.scopes|Invalid|Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
    );
    bad(
        "/spec/scopes",
        json!(["Terminating", "NotTerminating"]),
        &["spec.scopes|Invalid|Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"],
    );
    let select = |requirement: Value, want: &[&str]| {
        bad(
            "/spec/scopeSelector",
            json!({"matchExpressions": [requirement]}),
            want,
        );
    };
    select(
        json!({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}),
        &[],
    );
    select(
        json!({"scopeName": "Nice", "operator": "Exists"}),
        &["spec.scopeSelector.matchExpressions.scopeName|Invalid|Invalid value: \"Nice\": unsupported scope"],
    );
    select(
        json!({"scopeName": "PriorityClass", "operator": "In"}),
        &[
            "spec.scopeSelector.matchExpressions.values|Required|Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ],
    );
    select(
        json!({"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]}),
        &[
            "spec.scopeSelector.matchExpressions.values|Invalid|Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        ],
    );
    select(
        json!({"scopeName": "PriorityClass", "operator": "Is"}),
        &[
            "spec.scopeSelector.matchExpressions.operator|Invalid|Invalid value: \"Is\": not a valid selector operator",
        ],
    );
    select(
        json!({"scopeName": "Terminating", "operator": "DoesNotExist"}),
        &[
            "spec.scopeSelector.matchExpressions.operator|Invalid|Invalid value: \"DoesNotExist\": must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
        ],
    );
}

#[test]
fn invalid_limit_ranges() {
    let bad = |limit: Value, want: &[&str]| {
        let got = create(resource(LIMITS), &limits(limit)).map_or_else(causes, |_| Vec::new());
        assert_eq!(got, want);
    };
    bad(
        json!({"type": "Pod", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "2"}}),
        &[],
    );
    bad(
        json!({"type": "Disk"}),
        &[
            "spec.limits[0].type|Invalid|Invalid value: \"Disk\": must be a standard limit type or fully qualified",
        ],
    );
    bad(
        json!({"type": "Pod", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}}),
        &[
            "spec.limits[0].default|Forbidden|Forbidden: may not be specified when `type` is 'Pod'",
            "spec.limits[0].defaultRequest|Forbidden|Forbidden: may not be specified when `type` is 'Pod'",
        ],
    );
    bad(
        json!({"type": "PersistentVolumeClaim"}),
        &[
            "spec.limits[0].limits|Required|Required value: either minimum or maximum storage value is required, but neither was provided",
        ],
    );
    bad(
        json!({"type": "Container", "max": {"disk": "1"}, "default": {"disk": "1"}, "defaultRequest": {"disk": "1"}}),
        &["max", "default", "defaultRequest"]
            .iter()
            .flat_map(|list| {
                [
                    "must be a standard resource type or fully qualified",
                    "must be a standard resource for containers",
                ]
                .map(|text| format!("spec.limits[0].{list}[disk]|Invalid|Invalid value: \"disk\": {text}"))
            })
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    bad(
        json!({"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}),
        &["spec.limits[0].min[cpu]|Invalid|Invalid value: \"2\": min value 2 is greater than max value 1"],
    );
    bad(
        json!({"type": "Container", "min": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}),
        &[
            "spec.limits[0].defaultRequest[cpu]|Invalid|Invalid value: \"1\": min value 2 is greater than default request value 1",
        ],
    );
    bad(
        json!({"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}),
        &[
            "spec.limits[0].default[cpu]|Invalid|Invalid value: \"1\": default value 2 is greater than max value 1",
        ],
    );
    bad(
        json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}),
        &[
            "spec.limits[0].defaultRequest[cpu]|Invalid|Invalid value: \"2\": default request value 2 is greater than default limit value 1",
        ],
    );
    bad(
        json!({"type": "Container", "min": {"cpu": "2"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}}),
        &[
            "spec.limits[0].defaultRequest[cpu]|Invalid|Invalid value: \"1\": min value 2 is greater than default request value 1",
            "spec.limits[0].default[cpu]|Invalid|Invalid value: \"2\": min value 2 is greater than default value 1",
        ],
    );
    bad(
        json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}),
        &[
            "spec.limits[0].maxLimitRequestRatio[cpu]|Invalid|Invalid value: \"500m\": ratio 500m is less than 1",
        ],
    );
    bad(
        json!({"type": "Pod", "max": {"cpu": "2"}, "min": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "3"}}),
        &[
            "spec.limits[0].maxLimitRequestRatio[cpu]|Invalid|Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
        ],
    );
    bad(
        json!({"type": "Container", "default": {"x.io/gpu": "2"}, "defaultRequest": {"x.io/gpu": "1"}}),
        &[
            "spec.limits[0].defaultRequest[x.io/gpu]|Invalid|Invalid value: \"1\": default value 2 must equal to defaultRequest value 1 in x.io/gpu",
        ],
    );
    let twice = json!({"metadata": {"name": "a"}, "spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}});
    let got = create(resource(LIMITS), &twice).map_or_else(causes, |_| Vec::new());
    assert_eq!(got, ["spec.limits[1].type|Duplicate|Duplicate value: \"Pod\""]);
}

#[test]
fn other_updates() {
    let old = stored(QUOTA, &quota());
    refused(QUOTA, &old, json!({"spec": {"hard": {"pods": "20"}}}), &[]);
    refused(
        QUOTA,
        &old,
        json!({"spec": {"scopes": ["Terminating"]}}),
        &["spec.scopes|Invalid|Invalid value: [\"Terminating\"]: field is immutable"],
    );
    refused_part(
        QUOTA,
        &old,
        json!({"status": {"hard": {"pods": "1"}, "used": {"pods": "-1"}}}),
        Subresource::Status,
        &[&format!(
            "status.used[pods]|Invalid|Invalid value: \"-1\": {NOT_NEGATIVE}"
        )],
    );
    let old = stored(CONTROLLER, &controller());
    let new = update(
        CONTROLLER,
        &old,
        json!({"spec": {"replicas": 3}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(new["metadata"]["generation"], 2);
    refused_part(
        CONTROLLER,
        &old,
        json!({"status": {"replicas": 1, "readyReplicas": 2}}),
        Subresource::Status,
        &["status.readyReplicas|Invalid|Invalid value: 2: cannot be greater than status.replicas"],
    );
    let old = stored(TEMPLATE, &json!({"metadata": {"name": "a"}, "template": pods()}));
    let new = update(
        TEMPLATE,
        &old,
        json!({"template": {"metadata": {"labels": {"x": "y"}}}}),
        Subresource::Main,
    );
    assert_eq!(new.unwrap()["metadata"]["generation"], 2);
}

/// What a Pod with these changes is warned of when it is created.
#[track_caller]
fn pod_warnings(spec: Value, annotations: Value, want: &[&str]) {
    let mut body = json!({"metadata": {"name": "a", "annotations": annotations}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    corten_api::patch::merge_patch(&mut body["spec"], &spec);
    warned(("v1", "Pod"), &body, want, &[]);
}

#[test]
fn pods_are_warned_of_what_does_nothing() {
    let with = |container: Value| {
        let mut all = json!({"name": "c", "image": "i:1"});
        corten_api::patch::merge_patch(&mut all, &container);
        json!({"containers": [all]})
    };
    let none = json!({});
    pod_warnings(json!({}), none.clone(), &[]);
    pod_warnings(
        json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}),
        none.clone(),
        &[
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
        ],
    );
    pod_warnings(
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
        none.clone(),
        &["spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod"],
    );
    pod_warnings(
        json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}},
        ]}}}),
        none.clone(),
        &[
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
        ],
    );
    pod_warnings(
        json!({}),
        json!({"seccomp.security.alpha.kubernetes.io/pod": "x", "container.seccomp.security.alpha.kubernetes.io/c": "x"}),
        &[
            "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
            "metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
        ],
    );
    pod_warnings(
        json!({"volumes": [{"name": "g", "gitRepo": {"repository": "r"}}], "terminationGracePeriodSeconds": -1}),
        none.clone(),
        &[
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ],
    );
    pod_warnings(
        json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}),
        none.clone(),
        &["spec.imagePullSecrets[1].name: duplicate name \"a\""],
    );
    pod_warnings(
        with(json!({"resources": {"requests": {"memory": "1500m"}}})),
        none.clone(),
        &[
            "spec.containers[0].resources.requests[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
        ],
    );
    pod_warnings(
        with(
            json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]}),
        ),
        none.clone(),
        &[
            "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
        ],
    );
    pod_warnings(
        with(json!({"ports": [
            {"name": "a", "containerPort": 80}, {"name": "b", "containerPort": 80},
            {"name": "c", "containerPort": 80, "hostPort": 80}, {"name": "d", "containerPort": 81, "hostIP": "10.0.0.1"},
        ]})),
        none,
        &[
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
            "spec.containers[0].ports[3]: hostIP set without hostPort: {Name:d HostPort:0 ContainerPort:81 Protocol:TCP HostIP:10.0.0.1}",
        ],
    );
    let mut dotted = controller();
    dotted["spec"]["template"]["spec"]["nodeSelector"] = json!({"beta.kubernetes.io/arch": "x"});
    let text = "spec.template.spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use \"kubernetes.io/arch\" instead";
    warned(CONTROLLER, &dotted, &[text], &[text]);
    // An update of nothing but metadata is not told again.
    let old = stored(CONTROLLER, &dotted);
    let (mut labelled, mut scaled) = (old.clone(), old.clone());
    labelled["metadata"]["labels"]["x"] = "y".into();
    scaled["metadata"]["generation"] = 2.into();
    let kind = resource(CONTROLLER);
    assert_eq!(kind.warnings_on_update(&labelled, &old), [""; 0]);
    assert_eq!(kind.warnings_on_update(&scaled, &old), [text]);
}

#[test]
fn services_and_nodes_are_warned_of_what_does_nothing() {
    let service = |spec: Value, want: &[&str]| {
        let mut body = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}});
        corten_api::patch::merge_patch(&mut body["spec"], &spec);
        warned(("v1", "Service"), &body, want, want);
    };
    service(json!({}), &[]);
    service(
        json!({"clusterIP": "None", "externalIPs": ["8.8.8.8"], "sessionAffinity": "ClientIP"}),
        &[
            "spec.externalIPs is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
        ],
    );
    service(
        json!({"externalName": "a.io", "trafficDistribution": "PreferClose"}),
        &[
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ],
    );
    service(
        json!({"type": "ExternalName", "externalName": "a.io", "externalIPs": ["8.8.8.8"]}),
        &["spec.externalIPs is ignored when spec.type is \"ExternalName\""],
    );
    let text = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
    let node = json!({"metadata": {"name": "a"}, "spec": {"externalID": "x"}});
    warned(("v1", "Node"), &node, &[text], &[text]);
}

#[test]
fn shown() {
    columns(
        CONTROLLER,
        json!({"metadata": aged("a"), "spec": controller()["spec"], "status": {"replicas": 2, "readyReplicas": 1}}),
        &[
            "Name=a",
            "Desired=1",
            "Current=2",
            "Ready=1",
            "Age=5m",
            "+Containers=c",
            "+Images=i:1",
            "+Selector=app=a",
        ],
    );
    columns(
        TEMPLATE,
        json!({"metadata": aged("a"), "template": pods()}),
        &["Name=a", "Containers=c", "Images=i:1", "Pod Labels=app=a"],
    );
    columns(
        QUOTA,
        json!({"metadata": aged("a"), "status": {
            "hard": {"pods": "10", "limits.cpu": "4", "requests.cpu": "2"}, "used": {"pods": "3"},
        }}),
        &[
            "Name=a",
            "Request=pods: 3/10, requests.cpu: 0/2",
            "Limit=limits.cpu: 0/4",
            "Age=5m",
        ],
    );
    columns(
        LIMITS,
        limits(json!({"type": "Pod"})),
        &["Name=a", "Created At=null"],
    );
    let component = |status: &str| json!({"metadata": {"name": "etcd-0"}, "conditions": [{"type": "Healthy", "status": status, "message": "ok"}]});
    columns(
        COMPONENT,
        component("True"),
        &["Name=etcd-0", "Status=Healthy", "Message=ok", "Error="],
    );
    columns(
        COMPONENT,
        component("False"),
        &["Name=etcd-0", "Status=Unhealthy", "Message=ok", "Error="],
    );
    assert!(
        resource(CONTROLLER)
            .selectable_names()
            .contains(&"status.replicas")
    );
}
