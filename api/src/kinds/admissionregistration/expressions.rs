//! What expressions of policies and match conditions may name.
//!
//! Source: Kubernetes `apiserver/pkg/admission/plugin/cel/compile.go`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use corten_cel::{Decl, Env, Field, Object, Shape, Type, UNBOUNDED};

/// Variables in the order of their values: see [`environment`].
pub const VARIABLES: [&str; 7] = [
    "object",
    "oldObject",
    "request",
    "params",
    "namespaceObject",
    "authorizer",
    REQUEST_RESOURCE,
];
const REQUEST_RESOURCE: &str = "authorizer.requestResource";
/// Variables that one policy may define.
pub const MAX_VARIABLES: usize = 128;

fn object(name: &str, fields: Vec<(&str, Arc<Decl>)>) -> Arc<Decl> {
    let fields: BTreeMap<String, Field> = fields
        .into_iter()
        .map(|(name, decl)| {
            let json = name.into();
            (name.to_owned(), Field { json, decl })
        })
        .collect();
    Arc::new(Decl::new(
        Shape::Object(Arc::new(Object {
            name: name.to_owned(),
            fields,
            open: false,
        })),
        UNBOUNDED,
        1,
    ))
}

/// `request`: an AdmissionRequest without its objects.
static REQUEST: LazyLock<Arc<Decl>> = LazyLock::new(|| {
    let text = || Arc::new(Decl::of(Type::String));
    let dynamic = || Arc::new(Decl::DYN);
    let kind = || {
        object(
            "kubernetes.GroupVersionKind",
            vec![("group", text()), ("version", text()), ("kind", text())],
        )
    };
    let resource = || {
        object(
            "kubernetes.GroupVersionResource",
            vec![("group", text()), ("version", text()), ("resource", text())],
        )
    };
    let user = object(
        "kubernetes.UserInfo",
        vec![
            ("username", text()),
            ("uid", text()),
            ("groups", Arc::new(Decl::of(Type::list(Type::String)))),
            (
                "extra",
                Arc::new(Decl::of(Type::map(Type::String, Type::list(Type::String)))),
            ),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        vec![
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Arc::new(Decl::of(Type::Bool))),
            ("options", dynamic()),
        ],
    )
});

/// `namespaceObject`: what upstream's `BuildNamespaceType` shows of one, its spelling of `UID` included.
static NAMESPACE: LazyLock<Arc<Decl>> = LazyLock::new(|| {
    let text = || Arc::new(Decl::of(Type::String));
    let number = || Arc::new(Decl::of(Type::Int));
    let time = || Arc::new(Decl::of(Type::Timestamp));
    let texts = || Arc::new(Decl::of(Type::list(Type::String)));
    let labels = || Arc::new(Decl::of(Type::map(Type::String, Type::String)));
    let condition = object(
        "kubernetes.NamespaceCondition",
        vec![
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", time()),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        vec![
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", labels()),
            ("annotations", labels()),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", number()),
            ("deletionTimestamp", time()),
            ("generation", number()),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ],
    );
    let status = vec![
        ("conditions", Arc::new(Decl::of(Type::list(condition.ty())))),
        ("phase", text()),
    ];
    object(
        "kubernetes.Namespace",
        vec![
            ("metadata", metadata),
            (
                "spec",
                object("kubernetes.NamespaceSpec", vec![("finalizers", texts())]),
            ),
            ("status", object("kubernetes.NamespaceStatus", status)),
        ],
    )
});

/// How `namespaceObject` is declared, by which its value is viewed.
pub fn namespace() -> &'static Decl {
    &NAMESPACE
}

/// How `request` is declared, by which its value is viewed.
pub fn request() -> &'static Decl {
    &REQUEST
}

/// What an expression may name. A policy without `paramKind` has no `params`, and what makes texts has no `authorizer`.
pub fn environment(params: bool, authorizer: bool) -> Env {
    typed_environment(
        &Arc::new(Decl::DYN),
        params.then(|| Arc::new(Decl::DYN)),
        authorizer,
    )
}

/// As [`environment`], with objects and parameters of known types.
pub fn typed_environment(objects: &Arc<Decl>, params: Option<Arc<Decl>>, authorizer: bool) -> Env {
    let host = |ty: &'static str| Arc::new(Decl::of(Type::Opaque(ty)));
    let hidden = |name: &str| match name {
        "params" => params.is_none(),
        "authorizer" | REQUEST_RESOURCE => !authorizer,
        _ => false,
    };
    let decl = |name: &str| match name {
        "request" => REQUEST.clone(),
        "namespaceObject" => NAMESPACE.clone(),
        "params" => params.clone().unwrap_or_else(|| Arc::new(Decl::DYN)),
        "authorizer" => host("kubernetes.authorization.Authorizer"),
        REQUEST_RESOURCE => host("kubernetes.authorization.ResourceCheck"),
        _ => objects.clone(),
    };
    // What is hidden keeps its place under a name that nobody can write.
    Env::new(VARIABLES.map(|name| {
        let shown: Arc<str> = if hidden(name) {
            format!("@{name}").into()
        } else {
            name.into()
        };
        (shown, decl(name))
    }))
}

/// The type that others see a variable to have: objects and the libraries' own values are dynamic.
/// Source: `convertCelTypeToDeclType`.
fn seen_as(ty: &Type) -> Type {
    match ty {
        Type::Bool
        | Type::Int
        | Type::Uint
        | Type::Double
        | Type::String
        | Type::Bytes
        | Type::Timestamp
        | Type::Duration => ty.clone(),
        Type::List(of) => Type::list(seen_as(of)),
        Type::Map(of) => Type::map(seen_as(&of.0), seen_as(&of.1)),
        _ => Type::Dyn,
    }
}

/// Adds `variables`: the policy's own, with the types their expressions have.
#[must_use]
pub fn with_variables(env: &Env, known: &[(String, Type)]) -> Env {
    let fields = known
        .iter()
        .map(|(name, ty)| (name.as_str(), Arc::new(Decl::of(seen_as(ty)))))
        .collect();
    env.clone()
        .with("variables", object("kubernetes.variables", fields))
}
