//! Acting as another user: the `Impersonate-*` headers. Pure.
//!
//! Source: Kubernetes `apiserver/pkg/endpoints/filters/impersonation.go`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use corten_api::Status;
use corten_api::status::Qualified;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::User;
use crate::identity::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// The user a request of `user` with these headers acts as.
///
/// # Errors
/// `Forbidden` for who may not impersonate, `InternalError` (as upstream) for headers without a user.
pub fn acting(user: User, headers: &HeaderMap) -> Result<User, Status> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let name = text(USER);
    let extras = || headers.keys().filter(|k| k.as_str().starts_with(EXTRA));
    if name.is_empty() {
        if headers.contains_key(GROUP) || headers.contains_key(UID) || extras().next().is_some() {
            return Err(Status::internal(
                "requested impersonation without impersonating a user",
            ));
        }
        return Ok(user);
    }
    if !user.is_master() {
        return Err(forbidden(&user, name));
    }
    let mut groups: Vec<String> = headers
        .get_all(GROUP)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .map(str::to_owned)
        .collect();
    if groups.is_empty()
        && let Some((namespace, _)) = service_account(name)
    {
        groups.push("system:serviceaccounts".into());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let known = |group: &str| groups.iter().any(|g| g == group);
    if name == ANONYMOUS {
        if !known(UNAUTHENTICATED) {
            groups.push(UNAUTHENTICATED.into());
        }
    } else if !known(AUTHENTICATED) && !known(UNAUTHENTICATED) {
        groups.push(AUTHENTICATED.into());
    }
    let mut acting = User::anonymous();
    acting.name = name.to_owned();
    acting.uid = text(UID).to_owned();
    acting.groups = groups;
    for header in extras() {
        let key = percent_decode_str(&header.as_str()[EXTRA.len()..]).decode_utf8_lossy();
        let values = headers.get_all(header).iter().filter_map(|v| v.to_str().ok());
        acting
            .extra
            .insert(key.into_owned(), values.map(str::to_owned).collect());
    }
    Ok(acting)
}

fn forbidden(user: &User, name: &str) -> Status {
    let (resource, name, scope) = match service_account(name) {
        Some((namespace, account)) => (
            "serviceaccounts",
            account,
            format!("in the namespace {namespace:?}"),
        ),
        None => ("users", name, "at the cluster scope".to_owned()),
    };
    let why = format!(
        "User {:?} cannot impersonate resource {resource:?} in API group \"\" {scope}",
        user.name
    );
    Status::forbidden(Qualified::new("", resource), name, why)
}

/// Namespace and name of `system:serviceaccount:NAMESPACE:NAME`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[track_caller]
    fn check(user: User, pairs: &[(&'static str, &str)], want: Result<(&str, &[&str]), (u16, &str)>) {
        let got = acting(user, &headers(pairs));
        match (got, want) {
            (Ok(user), Ok((name, groups))) => {
                assert_eq!(
                    (user.name.as_str(), user.groups),
                    (name, groups.iter().map(|g| (*g).to_owned()).collect())
                );
            }
            (Err(status), Err((code, text))) => {
                assert_eq!((status.code, status.message.as_str()), (code, text))
            }
            (got, want) => panic!("got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn only_masters_act_as_others() {
        let master = || User::component("root");
        check(
            master(),
            &[],
            Ok(("root", &["system:masters", "system:authenticated"])),
        );
        check(
            master(),
            &[(USER, "jane")],
            Ok(("jane", &["system:authenticated"])),
        );
        check(
            master(),
            &[(USER, "jane"), (GROUP, "dev"), (GROUP, "ops")],
            Ok(("jane", &["dev", "ops", "system:authenticated"])),
        );
        check(
            master(),
            &[(USER, "system:serviceaccount:a:b")],
            Ok((
                "system:serviceaccount:a:b",
                &[
                    "system:serviceaccounts",
                    "system:serviceaccounts:a",
                    "system:authenticated",
                ],
            )),
        );
        check(
            master(),
            &[(USER, "system:anonymous")],
            Ok(("system:anonymous", &["system:unauthenticated"])),
        );
        check(
            User::new("jane", &[]),
            &[(USER, "joe")],
            Err((
                403,
                "users \"joe\" is forbidden: User \"jane\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope",
            )),
        );
        check(
            master(),
            &[(GROUP, "dev")],
            Err((
                500,
                "Internal error occurred: requested impersonation without impersonating a user",
            )),
        );
        let extra = acting(
            master(),
            &headers(&[(USER, "j"), ("impersonate-extra-a%2fb", "c")]),
        )
        .expect("allowed");
        assert_eq!(extra.extra["a/b"], ["c"]);
    }
}
