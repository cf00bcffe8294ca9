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

/// How `request` is declared, by which its value is viewed.
pub fn request() -> &'static Decl {
    &REQUEST
}

/// What an expression may name. A policy without `paramKind` has no `params`, and what makes texts has no `authorizer`.
pub fn environment(params: bool, authorizer: bool) -> Env {
    let host = |ty: &'static str| Arc::new(Decl::of(Type::Opaque(ty)));
    let hidden = |name: &str| match name {
        "params" => !params,
        "authorizer" | REQUEST_RESOURCE => !authorizer,
        _ => false,
    };
    let decl = |name: &str| match name {
        "request" => REQUEST.clone(),
        "authorizer" => host("kubernetes.authorization.Authorizer"),
        REQUEST_RESOURCE => host("kubernetes.authorization.ResourceCheck"),
        _ => Arc::new(Decl::DYN),
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

/// Adds `variables`: the policy's own, with the types their expressions have.
#[must_use]
pub fn with_variables(env: &Env, known: &[(String, Type)]) -> Env {
    let fields = known
        .iter()
        .map(|(name, ty)| (name.as_str(), Arc::new(Decl::of(ty.clone()))))
        .collect();
    env.clone()
        .with("variables", object("kubernetes.variables", fields))
}
