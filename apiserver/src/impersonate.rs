//! Acting as another user: the `Impersonate-*` headers. Pure.
//!
//! Source: Kubernetes `apiserver/pkg/endpoints/filters/impersonation.go`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use corten_api::Status;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::User;
use crate::authorize::Attributes;
use crate::identity::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
/// How all of them begin.
const PREFIX: &str = "impersonate-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Whom a request wants to act as.
#[derive(Debug)]
pub struct Acting {
    user: User,
    /// Groups the request names itself; others follow from the name.
    groups: Vec<String>,
}

/// `None` without such headers.
///
/// # Errors
/// `InternalError`, as upstream, for headers without a user.
pub fn wanted(headers: &HeaderMap) -> Result<Option<Acting>, Status> {
    if !headers.keys().any(|key| key.as_str().starts_with(PREFIX)) {
        return Ok(None);
    }
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
        return Ok(None);
    }
    let asked: Vec<String> = headers
        .get_all(GROUP)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .map(str::to_owned)
        .collect();
    let mut groups = asked.clone();
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
    let mut user = User::anonymous();
    user.name = name.to_owned();
    user.uid = text(UID).to_owned();
    user.groups = groups;
    for header in extras() {
        let key = percent_decode_str(&header.as_str()[EXTRA.len()..]).decode_utf8_lossy();
        let values = headers.get_all(header).iter().filter_map(|v| v.to_str().ok());
        user.extra
            .insert(key.into_owned(), values.map(str::to_owned).collect());
    }
    Ok(Some(Acting { user, groups: asked }))
}

impl Acting {
    /// Everything that `by` must be allowed to do for this.
    #[must_use]
    pub fn asks<'a>(&'a self, by: &'a User) -> Vec<Attributes<'a>> {
        let ask = |group: &'a str, resource: &'a str, name: &'a str| Attributes {
            version: "v1",
            name,
            ..Attributes::resource(by, "impersonate", group, resource)
        };
        let mut asks = vec![match service_account(&self.user.name) {
            Some((namespace, account)) => Attributes {
                namespace,
                ..ask("", "serviceaccounts", account)
            },
            None => ask("", "users", &self.user.name),
        }];
        asks.extend(self.groups.iter().map(|group| ask("", "groups", group)));
        for (key, values) in &self.user.extra {
            asks.extend(values.iter().map(|value| Attributes {
                subresource: key,
                ..ask(AUTHENTICATION, "userextras", value)
            }));
        }
        if !self.user.uid.is_empty() {
            asks.push(ask(AUTHENTICATION, "uids", &self.user.uid));
        }
        asks
    }

    #[must_use]
    pub fn into_user(self) -> User {
        self.user
    }
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

    /// `want`: the name and the groups, or the error.
    #[track_caller]
    fn check(pairs: &[(&'static str, &str)], want: Result<(&str, &[&str]), (u16, &str)>) {
        match (wanted(&headers(pairs)), want) {
            (Ok(acting), Ok((name, groups))) => {
                let user = acting.map_or_else(User::anonymous, Acting::into_user);
                let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
                assert_eq!((user.name.as_str(), user.groups), (name, groups));
            }
            (Err(status), Err((code, text))) => {
                assert_eq!((status.code, status.message.as_str()), (code, text))
            }
            (got, want) => panic!("got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn who_a_request_acts_as() {
        check(&[], Ok(("system:anonymous", &["system:unauthenticated"])));
        check(&[(USER, "jane")], Ok(("jane", &["system:authenticated"])));
        check(
            &[(USER, "jane"), (GROUP, "dev"), (GROUP, "ops")],
            Ok(("jane", &["dev", "ops", "system:authenticated"])),
        );
        check(
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
            &[(USER, "system:anonymous")],
            Ok(("system:anonymous", &["system:unauthenticated"])),
        );
        check(
            &[(GROUP, "dev")],
            Err((
                500,
                "Internal error occurred: requested impersonation without impersonating a user",
            )),
        );
    }

    #[test]
    fn each_part_of_an_identity_is_asked_for() {
        let by = User::new("jane", &[]);
        let asks = |pairs: &[(&'static str, &str)]| -> Vec<String> {
            let acting = wanted(&headers(pairs)).expect("headers").expect("somebody");
            let asks = acting.asks(&by).into_iter();
            asks.map(|a| {
                format!(
                    "{}/{}/{}/{}/{}",
                    a.group, a.namespace, a.resource, a.subresource, a.name
                )
            })
            .collect()
        };
        assert_eq!(
            asks(&[(USER, "system:serviceaccount:a:b")]),
            ["/a/serviceaccounts//b"]
        );
        assert_eq!(
            asks(&[
                (USER, "joe"),
                (GROUP, "dev"),
                (UID, "7"),
                ("impersonate-extra-scopes", "x")
            ]),
            [
                "//users//joe",
                "//groups//dev",
                "authentication.k8s.io//userextras/scopes/x",
                "authentication.k8s.io//uids//7",
            ]
        );
    }
}
