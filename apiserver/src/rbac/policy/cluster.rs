//! Roles for users, nodes and components, and who has them. Data; `policy` says how to read it.

use super::{Role, role};

const EVENTS: &str = "create,patch,update core,events.k8s.io: events";
const TOKEN_REVIEWS: &str = "create authentication.k8s.io: tokenreviews";
const ACCESS_REVIEWS: &str = "create authorization.k8s.io: subjectaccessreviews";

pub const ROLES: &[Role] = &[
    role("cluster-admin", &["* *: *", "* *"]),
    role(
        "system:discovery",
        &["get /livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*"],
    ),
    role(
        "system:monitoring",
        &[
            "get /metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/* /flagz /statusz",
            "get core: nodes/metrics",
        ],
    ),
    role(
        "system:basic-user",
        &[
            "create authorization.k8s.io: selfsubjectaccessreviews selfsubjectrulesreviews",
            "create authentication.k8s.io: selfsubjectreviews",
        ],
    ),
    role(
        "system:public-info-viewer",
        &["get /livez /readyz /healthz /version /version/"],
    ),
    Role {
        aggregated: true,
        ..role("admin", &[])
    },
    Role {
        aggregated: true,
        aggregate_to: Some("admin"),
        ..role("edit", &[])
    },
    Role {
        aggregated: true,
        aggregate_to: Some("edit"),
        ..role("view", &[])
    },
    Role {
        aggregate_to: Some("admin"),
        ..role(
            "system:aggregate-to-admin",
            &[
                "create authorization.k8s.io: localsubjectaccessreviews",
                "read-write rbac.authorization.k8s.io: roles rolebindings",
            ],
        )
    },
    Role {
        aggregate_to: Some("edit"),
        ..role(
            "system:aggregate-to-edit",
            &[
                "read core: pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy",
                "impersonate core: serviceaccounts",
                "write core: pods pods/attach pods/proxy pods/exec pods/portforward",
                "create core: pods/eviction",
                "write core: replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy persistentvolumeclaims configmaps secrets",
                "create core: serviceaccounts/token",
                "write core,events.k8s.io: events",
                "write apps: statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback replicasets replicasets/scale",
                "write autoscaling: horizontalpodautoscalers",
                "write batch: jobs cronjobs",
                "write extensions: daemonsets deployments deployments/scale deployments/rollback ingresses replicasets replicasets/scale replicationcontrollers/scale networkpolicies",
                "write policy: poddisruptionbudgets",
                "write networking.k8s.io: networkpolicies ingresses",
                "read-write coordination.k8s.io: leases",
                "write resource.k8s.io: resourceclaims resourceclaimtemplates",
            ],
        )
    },
    Role {
        aggregate_to: Some("view"),
        ..role(
            "system:aggregate-to-view",
            &[
                "read core: pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps",
                "read core: limitranges resourcequotas bindings pods/status resourcequotas/status namespaces/status replicationcontrollers/status pods/log",
                "read core: namespaces",
                "read core,events.k8s.io: events",
                "read discovery.k8s.io: endpointslices",
                "read apps: controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status deployments deployments/status deployments/scale replicasets replicasets/status replicasets/scale",
                "read autoscaling: horizontalpodautoscalers horizontalpodautoscalers/status",
                "read batch: jobs cronjobs cronjobs/status jobs/status",
                "read extensions: daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale networkpolicies",
                "read policy: poddisruptionbudgets poddisruptionbudgets/status",
                "read networking.k8s.io: networkpolicies ingresses ingresses/status",
                "read resource.k8s.io: resourceclaims resourceclaims/status resourceclaimtemplates",
            ],
        )
    },
    role(
        "system:heapster",
        &[
            "read core: events pods nodes namespaces",
            "read extensions: deployments",
        ],
    ),
    role(
        "system:node",
        &[
            TOKEN_REVIEWS,
            "create authorization.k8s.io: subjectaccessreviews localsubjectaccessreviews",
            "read core: services",
            "create,get,list,watch core: nodes",
            "patch,update core: nodes/status",
            "patch,update core: nodes",
            EVENTS,
            "read core: pods",
            "create,delete core: pods",
            "patch,update core: pods/status",
            "create core: pods/eviction",
            "read core: secrets configmaps",
            "get core: persistentvolumeclaims persistentvolumes",
            "get core: endpoints",
            "create,get,list,watch certificates.k8s.io: certificatesigningrequests",
            "create,delete,get,patch,update coordination.k8s.io: leases",
            "get storage.k8s.io: volumeattachments",
            "create core: serviceaccounts/token",
            "get,patch,update core: persistentvolumeclaims/status",
            "read storage.k8s.io: csidrivers",
            "create,delete,get,patch,update storage.k8s.io: csinodes",
            "read node.k8s.io: runtimeclasses",
            "get resource.k8s.io: resourceclaims",
            "deletecollection resource.k8s.io: resourceslices",
            "get core: serviceaccounts",
        ],
    ),
    role(
        "system:node-problem-detector",
        &["get core: nodes", "patch core: nodes/status", EVENTS],
    ),
    role(
        "system:node-bootstrapper",
        &["create,get,list,watch certificates.k8s.io: certificatesigningrequests"],
    ),
    role("system:auth-delegator", &[TOKEN_REVIEWS, ACCESS_REVIEWS]),
    role("system:kube-aggregator", &["read core: services endpoints"]),
    role(
        "system:kube-controller-manager",
        &[
            EVENTS,
            "create coordination.k8s.io: leases",
            "get,update coordination.k8s.io: leases = kube-controller-manager",
            "create core: secrets serviceaccounts",
            "delete core: secrets",
            "get core: namespaces secrets serviceaccounts configmaps",
            "update core: secrets serviceaccounts",
            TOKEN_REVIEWS,
            ACCESS_REVIEWS,
            "list,watch *: *",
            "create core: serviceaccounts/token",
        ],
    ),
    role("system:kube-dns", &["list,watch core: endpoints services"]),
    role(
        "system:persistent-volume-provisioner",
        &[
            "create,delete,get,list,watch core: persistentvolumes",
            "get,list,update,watch core: persistentvolumeclaims",
            "read storage.k8s.io: storageclasses",
            "watch core: events",
            EVENTS,
        ],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &["create certificates.k8s.io: certificatesigningrequests/nodeclient"],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &["create certificates.k8s.io: certificatesigningrequests/selfnodeclient"],
    ),
    role(
        "system:volume-scheduler",
        &[
            "read-update core: persistentvolumes",
            "read storage.k8s.io: storageclasses",
            "read-update core: persistentvolumeclaims",
        ],
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        &["approve certificates.k8s.io: signers = kubernetes.io/legacy-unknown"],
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        &["approve certificates.k8s.io: signers = kubernetes.io/kubelet-serving"],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &["approve certificates.k8s.io: signers = kubernetes.io/kube-apiserver-client"],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &["approve certificates.k8s.io: signers = kubernetes.io/kube-apiserver-client-kubelet"],
    ),
    role(
        "system:service-account-issuer-discovery",
        &[
            "get /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        ],
    ),
    role(
        "system:kubelet-api-admin",
        &[
            "read core: nodes",
            "proxy core: nodes",
            "* core: nodes/proxy nodes/metrics nodes/stats nodes/log",
            "* core: nodes/pods nodes/healthz nodes/configz",
        ],
    ),
    role(
        "system:node-proxier",
        &[
            "list,watch core: services endpoints",
            "read core: nodes",
            EVENTS,
            "list,watch networking.k8s.io: servicecidrs",
            "list,watch discovery.k8s.io: endpointslices",
        ],
    ),
    role(
        "system:kube-scheduler",
        &[
            EVENTS,
            "create coordination.k8s.io: leases",
            "get,list,update,watch coordination.k8s.io: leases = kube-scheduler",
            "read-write coordination.k8s.io: leasecandidates",
            "read core: nodes",
            "delete,get,list,watch core: pods",
            "create core: pods/binding bindings",
            "patch,update core: pods/status",
            "read core: services replicationcontrollers",
            "read apps,extensions: replicasets",
            "read apps: statefulsets",
            "read policy: poddisruptionbudgets",
            "read core: persistentvolumeclaims persistentvolumes",
            TOKEN_REVIEWS,
            ACCESS_REVIEWS,
            "read storage.k8s.io: csinodes",
            "read storage.k8s.io: volumeattachments",
            "read core: namespaces",
            "read storage.k8s.io: csidrivers",
            "read storage.k8s.io: csistoragecapacities",
            "read resource.k8s.io: deviceclasses",
            "read-update resource.k8s.io: resourceclaims",
            "read-update resource.k8s.io: resourceclaims/status",
            "patch,update resource.k8s.io: resourceclaims/binding",
            "update core: pods/finalizers",
            "read resource.k8s.io: resourceslices",
            "create,delete resource.k8s.io: resourceclaims",
        ],
    ),
];

/// Role and subjects; a binding has its role's name.
pub const BINDINGS: &[(&str, &[&str])] = &[
    ("cluster-admin", &["group:system:masters"]),
    ("system:monitoring", &["group:system:monitoring"]),
    ("system:discovery", &["group:system:authenticated"]),
    ("system:basic-user", &["group:system:authenticated"]),
    (
        "system:public-info-viewer",
        &["group:system:authenticated", "group:system:unauthenticated"],
    ),
    ("system:node-proxier", &["user:system:kube-proxy"]),
    (
        "system:kube-controller-manager",
        &["user:system:kube-controller-manager"],
    ),
    ("system:kube-dns", &["sa:kube-system/kube-dns"]),
    ("system:kube-scheduler", &["user:system:kube-scheduler"]),
    ("system:volume-scheduler", &["user:system:kube-scheduler"]),
    // The Node authorizer gives nodes what they need; upstream keeps this binding without subjects.
    ("system:node", &[]),
    (
        "system:service-account-issuer-discovery",
        &["group:system:serviceaccounts"],
    ),
];

/// Bindings of this project, where Kubernetes leaves them to the installer: name, role and subjects. A node routes and
/// serves Services with its own identity, so it may do what kube-proxy may.
pub const OWN_BINDINGS: &[(&str, &str, &[&str])] = &[
    (
        "corten:node-bootstrapper",
        "system:node-bootstrapper",
        &["group:system:bootstrappers"],
    ),
    (
        "corten:approve-new-nodes",
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &["group:system:bootstrappers"],
    ),
    (
        "corten:approve-nodes-renewals",
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &["group:system:nodes"],
    ),
    (
        "corten:node-proxier",
        "system:node-proxier",
        &["group:system:nodes"],
    ),
];

/// Namespace, name and rules.
pub const NAMESPACED: &[(&str, &str, &[&str])] = &[
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &["read core: configmaps = extension-apiserver-authentication"],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        &["read core: secrets"],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        &["create,get,list,watch core: configmaps"],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &["delete,get,list,watch core: secrets", EVENTS],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &[
            "create,get,list,update,watch coordination.k8s.io: leases",
            "create,get,list,update,watch coordination.k8s.io: leasecandidates",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &[
            "create,get,list,update,watch coordination.k8s.io: leases",
            "create,get,list,update,watch coordination.k8s.io: leasecandidates",
        ],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[
            "read core: configmaps",
            "update core: configmaps = cluster-info",
            EVENTS,
        ],
    ),
    // Ours: who has a node's name still renews its Lease, and a bootstrap token for one use says who used it.
    (
        "kube-node-lease",
        "corten:controller:certificate-controller",
        &["get coordination.k8s.io: leases"],
    ),
    (
        "kube-system",
        "corten:controller:certificate-controller",
        &["get,patch core: secrets"],
    ),
];

/// Namespace, name, role and subjects.
pub const NAMESPACED_BINDINGS: &[(&str, &str, &str, &[&str])] = &[
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[
            "user:system:kube-controller-manager",
            "user:system:kube-scheduler",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            "user:system:kube-controller-manager",
            "sa:kube-system/kube-controller-manager",
            "sa:kube-system/leader-election-controller",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &["user:system:kube-scheduler", "sa:kube-system/kube-scheduler"],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["sa:kube-system/bootstrap-signer"],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &["sa:kube-system/cloud-provider"],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &["sa:kube-system/token-cleaner"],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["sa:kube-system/bootstrap-signer"],
    ),
    (
        "kube-node-lease",
        "corten:controller:certificate-controller",
        "corten:controller:certificate-controller",
        &["sa:kube-system/certificate-controller"],
    ),
    (
        "kube-system",
        "corten:controller:certificate-controller",
        "corten:controller:certificate-controller",
        &["sa:kube-system/certificate-controller"],
    ),
];
