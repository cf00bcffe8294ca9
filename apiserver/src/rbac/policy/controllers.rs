//! One role for each controller, bound to the ServiceAccount of its name in kube-system. Data; `policy` says how to
//! read it.

const EVENTS: &str = "create,patch,update core,events.k8s.io: events";

/// Name without `system:controller:`, and rules.
pub const ROLES: &[(&str, &[&str])] = &[
    (
        "attachdetach-controller",
        &[
            "list,watch core: persistentvolumes persistentvolumeclaims",
            "read core: nodes",
            "patch,update core: nodes/status",
            "list,watch core: pods",
            EVENTS,
            "create,delete,get,list,watch storage.k8s.io: volumeattachments",
            "read storage.k8s.io: csidrivers",
            "read storage.k8s.io: csinodes",
        ],
    ),
    (
        "clusterrole-aggregation-controller",
        &["escalate,get,list,patch,update,watch rbac.authorization.k8s.io: clusterroles"],
    ),
    (
        "cronjob-controller",
        &[
            "get,list,update,watch batch: cronjobs",
            "create,delete,get,list,patch,update,watch batch: jobs",
            "update batch: cronjobs/status",
            "update batch: cronjobs/finalizers",
            "delete,list,watch core: pods",
            EVENTS,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            "read apps,extensions: daemonsets",
            "update apps,extensions: daemonsets/status",
            "update apps,extensions: daemonsets/finalizers",
            "list,watch core: nodes",
            "create,delete,list,patch,watch core: pods",
            "create core: pods/binding",
            "create,delete,get,list,patch,update,watch apps: controllerrevisions",
            EVENTS,
        ],
    ),
    (
        "deployment-controller",
        &[
            "get,list,update,watch apps,extensions: deployments",
            "update apps,extensions: deployments/status",
            "update apps,extensions: deployments/finalizers",
            "create,delete,get,list,patch,update,watch apps,extensions: replicasets",
            "get,list,update,watch core: pods",
            EVENTS,
        ],
    ),
    (
        "disruption-controller",
        &[
            "read apps,extensions: deployments",
            "read apps,extensions: replicasets",
            "read core: replicationcontrollers",
            "read policy: poddisruptionbudgets",
            "read apps: statefulsets",
            "update policy: poddisruptionbudgets/status",
            "patch,update core: pods/status",
            "get *: */scale",
            EVENTS,
        ],
    ),
    (
        "endpoint-controller",
        &[
            "read core: services pods",
            "create,delete,get,list,update,watch core: endpoints",
            "create core: endpoints/restricted",
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            "read core: services pods nodes",
            "update core: services/finalizers",
            "create,delete,get,list,update,watch discovery.k8s.io: endpointslices",
            EVENTS,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            "read core: services endpoints",
            "update core: services/finalizers",
            "update core: endpoints/finalizers",
            "create,delete,get,list,update,watch discovery.k8s.io: endpointslices",
            EVENTS,
        ],
    ),
    (
        "expand-controller",
        &[
            "get,list,patch,update,watch core: persistentvolumes",
            "patch,update core: persistentvolumeclaims/status",
            "read core: persistentvolumeclaims",
            EVENTS,
        ],
    ),
    (
        "ephemeral-volume-controller",
        &[
            "read core: pods",
            "update core: pods/finalizers",
            "create,get,list,watch core: persistentvolumeclaims",
            EVENTS,
        ],
    ),
    (
        "resource-claim-controller",
        &[
            "read core: pods",
            "update core: pods/finalizers",
            "create,delete,get,list,watch resource.k8s.io: resourceclaims",
            "patch,update resource.k8s.io: resourceclaims resourceclaims/status",
            "patch,update resource.k8s.io: resourceclaims/binding",
            "patch,update core: pods/status",
            EVENTS,
        ],
    ),
    (
        "device-taint-eviction-controller",
        &[
            "delete,get,list,watch core: pods",
            "patch,update core: pods/status",
            "read resource.k8s.io: resourceclaims",
            "read resource.k8s.io: resourceslices",
            "read resource.k8s.io: deviceclasses",
            EVENTS,
        ],
    ),
    (
        "generic-garbage-collector",
        &["delete,get,list,patch,update,watch *: *", EVENTS],
    ),
    (
        "horizontal-pod-autoscaler",
        &[
            "read autoscaling: horizontalpodautoscalers",
            "update autoscaling: horizontalpodautoscalers/status",
            "get,update *: */scale",
            "list,watch core: pods",
            "list,watch metrics.k8s.io: pods",
            "read custom.metrics.k8s.io: *",
            "read external.metrics.k8s.io: *",
            EVENTS,
        ],
    ),
    (
        "job-controller",
        &[
            "get,list,patch,update,watch batch: jobs",
            "update batch: jobs/status",
            "update batch: jobs/finalizers",
            "create,delete,list,patch,watch core: pods",
            EVENTS,
        ],
    ),
    (
        "namespace-controller",
        &[
            "delete,get,list,watch core: namespaces",
            "update core: namespaces/finalize namespaces/status",
            "delete,deletecollection,get,list,watch *: *",
        ],
    ),
    (
        "node-controller",
        &[
            "delete,get,list,patch,update,watch core: nodes",
            "patch,update core: nodes/status",
            "patch,update core: pods/status",
            "delete,get,list,watch core: pods",
            EVENTS,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            "create,delete,get,list,update,watch core: persistentvolumes",
            "update core: persistentvolumes/status",
            "get,list,update,watch core: persistentvolumeclaims",
            "update core: persistentvolumeclaims/status",
            "create,delete,get,list,watch core: pods",
            "read storage.k8s.io: storageclasses",
            "list,watch core: nodes",
            EVENTS,
            "watch core: events",
        ],
    ),
    (
        "pod-garbage-collector",
        &[
            "delete,list,watch core: pods",
            "read core: nodes",
            "patch core: pods/status",
        ],
    ),
    (
        "replicaset-controller",
        &[
            "get,list,update,watch apps,extensions: replicasets",
            "update apps,extensions: replicasets/status",
            "update apps,extensions: replicasets/finalizers",
            "create,delete,list,patch,watch core: pods",
            EVENTS,
        ],
    ),
    (
        "replication-controller",
        &[
            "get,list,update,watch core: replicationcontrollers",
            "update core: replicationcontrollers/status",
            "update core: replicationcontrollers/finalizers",
            "create,delete,list,patch,watch core: pods",
            EVENTS,
        ],
    ),
    (
        "resourcequota-controller",
        &["list,watch *: *", "update core: resourcequotas/status", EVENTS],
    ),
    (
        "route-controller",
        &["list,watch core: nodes", "patch core: nodes/status", EVENTS],
    ),
    (
        "service-account-controller",
        &["create core: serviceaccounts", EVENTS],
    ),
    (
        "service-controller",
        &[
            "read core: services",
            "patch,update core: services/status",
            "list,watch core: nodes",
            EVENTS,
        ],
    ),
    (
        "service-cidrs-controller",
        &[
            "get,list,patch,update,watch networking.k8s.io: servicecidrs",
            "patch,update networking.k8s.io: servicecidrs/finalizers",
            "patch,update networking.k8s.io: servicecidrs/status",
            "read networking.k8s.io: ipaddresses",
            EVENTS,
        ],
    ),
    (
        "statefulset-controller",
        &[
            "list,watch core: pods",
            "read apps: statefulsets",
            "update apps: statefulsets/status",
            "update apps: statefulsets/finalizers",
            "create,delete,get,patch,update core: pods",
            "create,delete,get,list,patch,update,watch apps: controllerrevisions",
            "create,get,list,watch core: persistentvolumeclaims",
            "delete,update core: persistentvolumeclaims",
            "update core: pods/finalizers",
            EVENTS,
        ],
    ),
    ("ttl-controller", &["list,patch,update,watch core: nodes", EVENTS]),
    (
        "certificate-controller",
        &[
            "delete,get,list,watch certificates.k8s.io: certificatesigningrequests",
            "update certificates.k8s.io: certificatesigningrequests/status certificatesigningrequests/approval",
            "approve certificates.k8s.io: signers = kubernetes.io/kube-apiserver-client-kubelet",
            "sign certificates.k8s.io: signers = kubernetes.io/legacy-unknown kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving",
            "create authorization.k8s.io: subjectaccessreviews",
            EVENTS,
        ],
    ),
    (
        "pvc-protection-controller",
        &[
            "get,list,update,watch core: persistentvolumeclaims",
            "update core: persistentvolumeclaims/status",
            "read core: pods",
            EVENTS,
        ],
    ),
    (
        "pv-protection-controller",
        &["get,list,update,watch core: persistentvolumes", EVENTS],
    ),
    (
        "volumeattributesclass-protection-controller",
        &[
            "read core: persistentvolumeclaims",
            "read core: persistentvolumes",
            "get,list,update,watch storage.k8s.io: volumeattributesclasses",
            EVENTS,
        ],
    ),
    (
        "ttl-after-finished-controller",
        &["delete,get,list,watch batch: jobs", EVENTS],
    ),
    (
        "root-ca-cert-publisher",
        &["create,update core: configmaps", EVENTS],
    ),
    (
        "validatingadmissionpolicy-status-controller",
        &[
            "read admissionregistration.k8s.io: validatingadmissionpolicies",
            "get,patch,update admissionregistration.k8s.io: validatingadmissionpolicies/status",
            EVENTS,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[
            "get core: configmaps = kube-apiserver-legacy-service-account-token-tracking",
            "delete,patch core: secrets",
        ],
    ),
    (
        "selinux-warning-controller",
        &[
            EVENTS,
            "read core: persistentvolumes",
            "read core: persistentvolumeclaims",
            "read core: pods",
            "read storage.k8s.io: csidrivers",
        ],
    ),
];

/// What our controllers do beyond upstream's of the same name: they patch where those update, and one transaction of
/// this server does what there a part of the server does. Roles and bindings `corten:controller:NAME`.
pub const OWN_ROLES: &[(&str, &[&str])] = &[
    (
        "certificate-controller",
        &["patch certificates.k8s.io: certificatesigningrequests/approval certificatesigningrequests/status"],
    ),
    ("deployment-controller", &["patch apps: deployments/status"]),
    // Where only who has this right writes addresses that are no Pod's: those of Pods in their host's network.
    ("endpoint-controller", &["create core: endpoints/restricted"]),
    (
        "endpointslice-controller",
        &["create discovery.k8s.io: endpointslices/restricted"],
    ),
    ("namespace-controller", &["patch core: namespaces/status"]),
    ("resourcequota-controller", &["get core: resourcequotas"]),
    (
        "validatingadmissionpolicy-status-controller",
        &["get,list apiextensions.k8s.io: customresourcedefinitions"],
    ),
    (
        "service-cidrs-controller",
        &[
            "create,delete networking.k8s.io: ipaddresses",
            "read core: services",
        ],
    ),
];
