//! What a ServiceAccount's token says, and who that makes its bearer. Pure.
//!
//! Source: Kubernetes `pkg/serviceaccount/claims.go`, `staging/.../authentication/serviceaccount/util.go`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use corten_api::{Status, meta, time};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::Rejected;
use crate::User;

/// How far clocks may be apart, and how long a deleted object still counts, in seconds.
pub const LEEWAY_SECONDS: i64 = 60;
/// A Pod's token of this life is one the kubelet asked for: it lives longer and only warns after it.
pub const WARN_ONLY_SECONDS: i64 = 60 * 60 + 7;
/// Life of such a token, in seconds.
const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;

/// The objects a token is bound to; `node` is also set for the node of a bound Pod.
#[derive(Debug, Default)]
pub struct Bound {
    pub pod: Option<Value>,
    pub secret: Option<Value>,
    pub node: Option<Value>,
}

fn reference(object: &Value) -> Value {
    let mut reference = json!({"name": meta::name(object)});
    if !meta::uid(object).is_empty() {
        reference["uid"] = meta::uid(object).into();
    }
    reference
}

/// What to sign for a ServiceAccount. `for_us`: all audiences are this API.
#[must_use]
#[allow(
    clippy::too_many_arguments,
    reason = "one for each claim that comes from outside"
)]
pub fn make(
    issuer: &str,
    account: &Value,
    bound: &Bound,
    audiences: &[String],
    for_us: bool,
    seconds: i64,
    id: &str,
    now: Timestamp,
) -> Value {
    let (namespace, name, now) = (meta::namespace(account), meta::name(account), now.as_second());
    let extended = for_us && bound.pod.is_some() && seconds == WARN_ONLY_SECONDS;
    let life = if extended { EXTENDED_SECONDS } else { seconds };
    let mut private = json!({"namespace": namespace, "serviceaccount": reference(account)});
    for (kind, object) in [
        ("pod", &bound.pod),
        ("secret", &bound.secret),
        ("node", &bound.node),
    ] {
        if let Some(object) = object {
            private[kind] = reference(object);
        }
    }
    if extended {
        private["warnafter"] = (now + seconds).into();
    }
    json!({
        "iss": issuer,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        "aud": audiences,
        "exp": now.saturating_add(life),
        "iat": now,
        "nbf": now,
        "jti": id,
        "kubernetes.io": private,
    })
}

/// Checks the audiences and times of verified claims. Returns those of `wanted` that the token is for.
///
/// # Errors
/// In upstream's words.
pub fn check(claims: &Value, wanted: &[String], now: Timestamp) -> Result<Vec<String>, Rejected> {
    let said: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        list => strings(list).collect(),
    };
    let common: Vec<String> = said
        .iter()
        .filter(|a| wanted.iter().any(|w| w == *a))
        .map(|a| (*a).to_owned())
        .collect();
    if common.is_empty() {
        return Err(Rejected::Because(format!(
            "token audiences {} is invalid for the target audiences {}",
            quoted(&said),
            quoted(wanted)
        )));
    }
    let now = now.as_second();
    let at = |field: &str| claims[field].as_i64();
    if at("nbf").is_some_and(|from| now.saturating_add(LEEWAY_SECONDS) < from) {
        return Err(Rejected::Because("service account token is not valid yet".into()));
    }
    if at("exp").is_none_or(|until| now.saturating_sub(LEEWAY_SECONDS) > until) {
        return Err(Rejected::Because("service account token has expired".into()));
    }
    Ok(common)
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A list as Go prints it with `%q`.
fn quoted<S: AsRef<str>>(list: &[S]) -> String {
    let all: Vec<String> = list
        .iter()
        .map(|s| corten_api::field::quoted(s.as_ref()))
        .collect();
    format!("[{}]", all.join(" "))
}

/// Checks that the account and what the token is bound to are still what they were. `find` reads an object by
/// plural, namespace and name.
///
/// # Errors
/// In upstream's words.
pub fn check_bound(
    claims: &Value,
    now: Timestamp,
    find: impl Fn(&str, &str, &str) -> Result<Value, Status>,
) -> Result<(), Rejected> {
    let private = &claims["kubernetes.io"];
    let namespace = private["namespace"].as_str().unwrap_or_default();
    let named = |kind: &str| private[kind]["name"].as_str().unwrap_or_default();
    let because = |why: String| Err(Rejected::Because(why));
    let account = match find("serviceaccounts", namespace, named("serviceaccount")) {
        Ok(account) => account,
        Err(status) => return because(status.message),
    };
    let name = named("serviceaccount");
    if is_gone(&account, now) {
        return because(format!("service account {namespace}/{name} has been deleted"));
    }
    if private["serviceaccount"]["uid"] != meta::uid(&account) {
        return because(format!(
            "service account UID ({}) does not match claim ({})",
            meta::uid(&account),
            private["serviceaccount"]["uid"].as_str().unwrap_or_default()
        ));
    }
    for (kind, plural) in [("secret", "secrets"), ("pod", "pods"), ("node", "nodes")] {
        let reference = &private[kind];
        // The node of a Pod only says where the Pod ran.
        if reference.is_null() || (kind == "node" && !private["pod"].is_null()) {
            continue;
        }
        let place = if kind == "node" { "" } else { namespace };
        let object = match find(plural, place, named(kind)) {
            Ok(object) if !is_gone(&object, now) => object,
            _ => return because("service account token has been invalidated".into()),
        };
        if reference["uid"] != meta::uid(&object) {
            return because(format!(
                "{kind} UID ({}) does not match service account {kind} ref claim ({})",
                meta::uid(&object),
                reference["uid"].as_str().unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// Being deleted for longer than the leeway.
fn is_gone(object: &Value, now: Timestamp) -> bool {
    let since = object["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(time::parse);
    since.is_some_and(|since| since.as_second() < now.as_second() - LEEWAY_SECONDS)
}

/// Who bears a token with these claims.
#[must_use]
pub fn user(claims: &Value) -> User {
    let private = &claims["kubernetes.io"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, account) = (text(&private["namespace"]), &private["serviceaccount"]);
    let mut user = User::new(
        format!("system:serviceaccount:{namespace}:{}", text(&account["name"])),
        &[
            "system:serviceaccounts",
            &format!("system:serviceaccounts:{namespace}"),
        ],
    );
    user.uid = text(&account["uid"]);
    let mut extra = Map::new();
    extra.insert(
        "credential-id".into(),
        claims["jti"]
            .as_str()
            .map_or(Value::Null, |id| format!("JTI={id}").into()),
    );
    for kind in ["node", "pod"] {
        extra.insert(format!("{kind}-name"), private[kind]["name"].clone());
        extra.insert(format!("{kind}-uid"), private[kind]["uid"].clone());
    }
    for (key, value) in extra {
        if let Value::String(value) = value {
            user.extra
                .insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        }
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Value {
        json!({"metadata": {"name": "robot", "namespace": "ns", "uid": "u1"}})
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn claims(bound: &Bound, seconds: i64) -> Value {
        let audiences = ["https://us".to_owned()];
        make(
            "https://us",
            &account(),
            bound,
            &audiences,
            true,
            seconds,
            "id-1",
            at(1_000),
        )
    }

    #[track_caller]
    fn rejected<T: std::fmt::Debug>(got: Result<T, Rejected>, want: &str) {
        assert_eq!(got.map_err(|r| r.to_string()).expect_err("rejected"), want);
    }

    #[test]
    fn a_token_names_its_account_and_what_it_is_bound_to() {
        let object = |name: &str| Some(json!({"metadata": {"name": name, "uid": format!("{name}-u")}}));
        let bound = Bound {
            pod: object("p"),
            secret: None,
            node: Some(json!({"metadata": {"name": "n"}})),
        };
        let claims = claims(&bound, 600);
        assert_eq!(
            claims,
            json!({
                "iss": "https://us", "sub": "system:serviceaccount:ns:robot", "aud": ["https://us"],
                "exp": 1_600, "iat": 1_000, "nbf": 1_000, "jti": "id-1",
                "kubernetes.io": {
                    "namespace": "ns", "serviceaccount": {"name": "robot", "uid": "u1"},
                    "pod": {"name": "p", "uid": "p-u"}, "node": {"name": "n"},
                },
            })
        );
        let user = user(&claims);
        assert_eq!(user.name, "system:serviceaccount:ns:robot");
        assert_eq!(
            user.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
        let keys: Vec<&str> = user.extra.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "authentication.kubernetes.io/credential-id",
                "authentication.kubernetes.io/node-name",
                "authentication.kubernetes.io/pod-name",
                "authentication.kubernetes.io/pod-uid",
            ]
        );
    }

    #[test]
    fn the_kubelets_tokens_warn_before_they_end() {
        let bound = Bound {
            pod: Some(json!({"metadata": {"name": "p", "uid": "pu"}})),
            ..Bound::default()
        };
        let claims = claims(&bound, WARN_ONLY_SECONDS);
        assert_eq!(claims["exp"], 1_000 + EXTENDED_SECONDS);
        assert_eq!(claims["kubernetes.io"]["warnafter"], 1_000 + WARN_ONLY_SECONDS);
    }

    #[test]
    fn times_and_audiences() {
        let claims = claims(&Bound::default(), 600);
        let us = ["https://us".to_owned()];
        assert_eq!(check(&claims, &us, at(1_000)), Ok(us.to_vec()));
        assert_eq!(check(&claims, &us, at(1_660)), Ok(us.to_vec()));
        rejected(
            check(&claims, &us, at(1_661)),
            "[invalid bearer token, service account token has expired]",
        );
        rejected(
            check(&claims, &us, at(900)),
            "[invalid bearer token, service account token is not valid yet]",
        );
        rejected(
            check(&claims, &["a".to_owned(), "b".to_owned()], at(1_000)),
            "[invalid bearer token, token audiences [\"https://us\"] is invalid for the target audiences [\"a\" \"b\"]]",
        );
    }

    #[test]
    fn what_a_token_is_bound_to_must_still_be_there() {
        let bound = Bound {
            pod: Some(json!({"metadata": {"name": "p", "uid": "pu"}})),
            ..Bound::default()
        };
        let claims = claims(&bound, 600);
        let world = |account_uid: &'static str, pod: Option<Value>| {
            move |plural: &str, _: &str, name: &str| match (plural, &pod) {
                ("serviceaccounts", _) => Ok(json!({"metadata": {"name": name, "uid": account_uid}})),
                ("pods", Some(pod)) => Ok(pod.clone()),
                _ => Err(Status::not_found(
                    corten_api::status::Qualified::new("", plural),
                    name,
                )),
            }
        };
        let pod = |uid: &str, deleted: Value| {
            Some(json!({"metadata": {"name": "p", "uid": uid, "deletionTimestamp": deleted}}))
        };
        let now = at(1_000);
        assert_eq!(
            check_bound(&claims, now, world("u1", pod("pu", Value::Null))),
            Ok(())
        );
        let recent = pod("pu", "1970-01-01T00:16:00Z".into());
        assert_eq!(check_bound(&claims, now, world("u1", recent)), Ok(()));
        const GONE: &str = "[invalid bearer token, service account token has been invalidated]";
        let long_ago = pod("pu", "1970-01-01T00:10:00Z".into());
        rejected(check_bound(&claims, now, world("u1", long_ago)), GONE);
        rejected(check_bound(&claims, now, world("u1", None)), GONE);
        rejected(
            check_bound(&claims, now, world("u1", pod("other", Value::Null))),
            "[invalid bearer token, pod UID (other) does not match service account pod ref claim (pu)]",
        );
        rejected(
            check_bound(&claims, now, world("u2", None)),
            "[invalid bearer token, service account UID (u2) does not match claim (u1)]",
        );
    }
}
