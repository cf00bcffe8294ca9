//! What a user may do. Pure.
//!
//! Until roles exist: `system:masters` may do everything, everyone sees health and version, authenticated users see
//! discovery and may ask about themselves, ServiceAccounts see how to check their tokens, and nothing else is allowed. Decides on the operation, never on the HTTP method.

use corten_api::Status;
use corten_api::status::Qualified;

use crate::identity::User;
use crate::query::Query;
use crate::route::{Operation, Target, route};
use crate::tokens::bootstrap::GROUP as BOOTSTRAPPERS;

/// The group of all ServiceAccounts.
const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// What every known user may read beside resources.
pub const OPEN_PATHS: [&str; 12] = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
    "/livez/*",
];

/// # Errors
/// `Unauthorized` for a user without credentials, `Forbidden` with upstream's text for the others.
pub fn authorize(user: &User, operation: &Operation, path: &str) -> Result<(), Status> {
    if allows(user, operation) {
        return Ok(());
    }
    if user.is_anonymous() {
        return Err(Status::unauthorized());
    }
    Err(match operation {
        Operation::Resource(target) => forbidden(user, target),
        _ => Status::forbidden(
            Qualified::new("", ""),
            "",
            format!("User {:?} cannot get path {path:?}", user.name),
        ),
    })
}

fn allows(user: &User, operation: &Operation) -> bool {
    match operation {
        Operation::Version | Operation::Health { .. } => true,
        Operation::LegacyVersions
        | Operation::Groups
        | Operation::Group(_)
        | Operation::Resources { .. }
        | Operation::OpenApiV2
        | Operation::OpenApiV3Index
        | Operation::OpenApiV3 { .. } => user.is_master() || !user.is_anonymous(),
        Operation::OpenIdConfiguration | Operation::OpenIdKeys => {
            user.is_master() || user.groups.iter().any(|g| g == SERVICE_ACCOUNTS)
        }
        Operation::Resource(target) => {
            permits_resource(user, target.verb.as_str(), &target.group, &target.resource)
        }
        _ => user.is_master(),
    }
}

/// Whether `user` may do this to resources; `verb` need not be one this server has. Whoever is known may ask about
/// itself. Source: Kubernetes' `system:basic-user`.
pub fn permits_resource(user: &User, verb: &str, group: &str, resource: &str) -> bool {
    let about_self = matches!(
        (group, resource),
        ("authentication.k8s.io", "selfsubjectreviews")
            | (
                "authorization.k8s.io",
                "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
            )
    );
    // Source: Kubernetes' `system:node-bootstrapper`.
    let asks_for_certificate = (group, resource) == ("certificates.k8s.io", "certificatesigningrequests")
        && matches!(verb, "create" | "get" | "list" | "watch")
        && user.groups.iter().any(|g| g == BOOTSTRAPPERS);
    user.is_master() || asks_for_certificate || (about_self && verb == "create" && !user.is_anonymous())
}

/// Whether `user` may do this to a path that is no resource.
pub fn permits_path(user: &User, verb: &str, path: &str) -> bool {
    if user.is_master() {
        return true;
    }
    if !matches!(verb, "get" | "head") {
        return false;
    }
    match route(&http::Method::GET, path, &Query::default()) {
        Ok(operation) => !matches!(operation, Operation::Resource(_)) && allows(user, &operation),
        Err(_) => false,
    }
}

fn forbidden(user: &User, target: &Target) -> Status {
    let resource = match &target.subresource {
        Some(sub) => format!("{}/{sub}", target.resource),
        None => target.resource.clone(),
    };
    let scope = match &target.namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let why = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {scope}",
        user.name,
        target.verb.as_str(),
        target.group,
    );
    let name = target.name.as_deref().unwrap_or_default();
    Status::forbidden(Qualified::new(&target.group, &target.resource), name, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(user: &User, path: &str, want: Result<(), (u16, &str)>) {
        let operation = route(&http::Method::GET, path, &Query::default()).expect("route");
        let got = authorize(user, &operation, path);
        match (got, want) {
            (Ok(()), Ok(())) => {}
            (Err(status), Err((code, text))) => {
                assert_eq!((status.code, status.message.as_str()), (code, text), "{path}");
            }
            (got, want) => panic!("{path}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn who_may_what() {
        let (master, other, nobody) = (
            User::component("m"),
            User::new("jane", &["dev"]),
            User::anonymous(),
        );
        check(&master, "/api/v1/pods", Ok(()));
        check(&master, "/metrics", Ok(()));
        check(&other, "/version", Ok(()));
        check(&other, "/apis", Ok(()));
        check(
            &other,
            "/apis/apps/v1/namespaces/a/deployments/d",
            Err((
                403,
                "deployments.apps \"d\" is forbidden: User \"jane\" cannot get resource \"deployments\" in API group \"apps\" in the namespace \"a\"",
            )),
        );
        check(
            &other,
            "/api/v1/nodes",
            Err((
                403,
                "nodes is forbidden: User \"jane\" cannot list resource \"nodes\" in API group \"\" at the cluster scope",
            )),
        );
        check(
            &other,
            "/metrics",
            Err((403, "forbidden: User \"jane\" cannot get path \"/metrics\"")),
        );
        check(&nobody, "/livez", Ok(()));
        check(&nobody, "/api/v1/pods", Err((401, "Unauthorized")));
        check(&nobody, "/apis", Err((401, "Unauthorized")));
    }
}
