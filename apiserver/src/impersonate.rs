//! Acting as another user: the `Impersonate-*` headers. Pure.
//!
//! There are several ways to be allowed to, and one is enough ([`Way`]): the constrained ones of KEP-5284 ask also for what
//! is done as the other one, the oldest one asks for the identity alone.
//!
//! Source: Kubernetes `apiserver/pkg/endpoints/filters/impersonation/{constrained_impersonation,mode}.go`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::HashMap;

use corten_api::{Status, names};
use http::HeaderMap;
use parking_lot::Mutex;
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

const MASTERS: &str = crate::identity::MASTERS;
/// The extra of a token that is bound to a Pod on a node.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From so many values on it is asked at once whether all are allowed. Source: `manyAuthorizationChecksInLoop`.
const MANY: usize = 4;

/// How somebody may be allowed to act as another user, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A ServiceAccount as the node that its token is bound to.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    /// Anybody else, with groups and extras.
    UserInfo,
    /// The verb `impersonate`, for whatever is done.
    Legacy,
}

impl Way {
    pub const ALL: [Way; 5] = [
        Way::AssociatedNode,
        Way::ArbitraryNode,
        Way::ServiceAccount,
        Way::UserInfo,
        Way::Legacy,
    ];

    /// The verb on the identity. A constrained one is told in the audit record.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Way::AssociatedNode => "impersonate:associated-node",
            Way::ArbitraryNode => "impersonate:arbitrary-node",
            Way::ServiceAccount => "impersonate:serviceaccount",
            Way::UserInfo => "impersonate:user-info",
            Way::Legacy => "impersonate",
        }
    }

    /// The verb on what is done with `verb` as the other one; `None`: that is not asked.
    #[must_use]
    pub fn verb_on(self, verb: &str) -> Option<String> {
        let mode = self.verb().strip_prefix("impersonate:")?;
        Some(format!("impersonate-on:{mode}:{verb}"))
    }
}

/// By which way each user was last allowed to, by name. Only the order of tries depends on it.
#[derive(Default)]
pub struct Last(Mutex<HashMap<String, Way>>);

impl Last {
    /// Most users that are remembered; then all are forgotten. Source: upstream's cache of the same.
    const MOST: usize = 10_000;

    pub fn last(&self, user: &str) -> Option<Way> {
        self.0.lock().get(user).copied()
    }

    pub fn note(&self, user: &str, way: Way) {
        let mut known = self.0.lock();
        if known.get(user) == Some(&way) {
            return;
        }
        if known.len() >= Self::MOST {
            known.clear();
        }
        known.insert(user.to_owned(), way);
    }
}

/// One step of finding out whether a way is open.
#[derive(Debug)]
pub enum Step<'a> {
    Ask(Attributes<'a>),
    /// The first alone, or all the others.
    Either(Attributes<'a>, Vec<Attributes<'a>>),
    /// Nobody may, and why.
    Never(Attributes<'a>, String),
}

/// Whom a request wants to act as.
#[derive(Debug)]
pub struct Acting {
    /// As the headers name it.
    wanted: User,
}

/// `None` without such headers.
///
/// # Errors
/// `BadRequest` for headers without a user.
pub fn wanted(headers: &HeaderMap) -> Result<Option<Acting>, Status> {
    if !headers.keys().any(|key| key.as_str().starts_with(PREFIX)) {
        return Ok(None);
    }
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let all = |name: &str| -> Vec<String> {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        values.map(str::to_owned).collect()
    };
    let mut wanted = User {
        name: text(USER),
        uid: text(UID),
        groups: all(GROUP),
        ..User::default()
    };
    for header in headers.keys().filter(|name| name.as_str().starts_with(EXTRA)) {
        let key = percent_decode_str(&header.as_str()[EXTRA.len()..]).decode_utf8_lossy();
        wanted.extra.insert(key.into_owned(), all(header.as_str()));
    }
    if !wanted.name.is_empty() {
        return Ok(Some(Acting { wanted }));
    }
    match wanted == User::default() {
        true => Ok(None),
        false => Err(Status::bad_request(format!(
            "requested {} without impersonating a user name",
            in_go(&wanted)
        ))),
    }
}

/// A user as Go's `%#v` shows upstream's.
fn in_go(user: &User) -> String {
    let list = |values: &[String]| {
        let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        format!("[]string{{{}}}", values.join(", "))
    };
    let groups = match user.groups.as_slice() {
        [] => "[]string(nil)".to_owned(),
        groups => list(groups),
    };
    let extra: Vec<String> = user
        .extra
        .iter()
        .map(|(key, values)| format!("{key:?}:{}", list(values)))
        .collect();
    let extra = match extra.as_slice() {
        [] => "(nil)".to_owned(),
        extra => format!("{{{}}}", extra.join(", ")),
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{groups}, Extra:map[string][]string{extra}}}",
        user.name, user.uid
    )
}

impl Acting {
    /// Whether `way` is one for this user, asked for by `by`.
    #[must_use]
    pub fn is_by(&self, way: Way, by: &User) -> bool {
        let wanted = &self.wanted;
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let (node, account) = (node(&wanted.name), service_account(&wanted.name));
        match way {
            Way::AssociatedNode => {
                let bound = by.extra.get(NODE_NAME).map(Vec::as_slice);
                let own = matches!(bound, Some([own]) if node == Some(own.as_str()));
                only_name && own && service_account(&by.name).is_some()
            }
            Way::ArbitraryNode => only_name && node.is_some(),
            Way::ServiceAccount => only_name && account.is_some(),
            Way::UserInfo => node.is_none() && account.is_none(),
            Way::Legacy => true,
        }
    }

    /// Everything that whoever asks must be allowed to do for this. `asked`: the request itself, with the verb that
    /// [`Way::verb_on`] gives.
    #[must_use]
    pub fn steps<'a>(&'a self, way: Way, by: &'a User, asked: Option<Attributes<'a>>) -> Vec<Step<'a>> {
        let wanted = &self.wanted;
        let constrained = way != Way::Legacy;
        let ask = |group: &'a str, resource: &'a str, name: &'a str| Attributes {
            version: "v1",
            name,
            ..Attributes::resource(by, way.verb(), group, resource)
        };
        let group = if constrained { AUTHENTICATION } else { "" };
        let mut steps: Vec<Step<'a>> = asked.into_iter().map(Step::Ask).collect();
        steps.push(Step::Ask(
            match (service_account(&wanted.name), node(&wanted.name)) {
                (Some((namespace, account)), _) => Attributes {
                    namespace,
                    ..ask(group, "serviceaccounts", account)
                },
                (None, Some(_)) if way == Way::AssociatedNode => ask(group, "nodes", "*"),
                (None, Some(name)) if constrained => ask(group, "nodes", name),
                _ => ask(group, "users", &wanted.name),
            },
        ));
        if !wanted.uid.is_empty() {
            steps.push(Step::Ask(ask(AUTHENTICATION, "uids", &wanted.uid)));
        }
        let groups = &wanted.groups;
        let never = |name: &'a str, why: &str| Step::Never(ask(group, "groups", name), why.to_owned());
        if constrained && groups.iter().any(String::is_empty) {
            steps.push(never("", "impersonating the empty string group is not allowed"));
        }
        if constrained && groups.iter().any(|group| group == MASTERS) {
            steps.push(never(
                MASTERS,
                "impersonating the system:masters group is not allowed",
            ));
        }
        let each = groups.iter().map(|name| ask(group, "groups", name));
        steps.extend(all_or_each(
            constrained && groups.len() >= MANY,
            ask(group, "groups", "*"),
            each,
        ));
        let extra = |subresource: &'a str, name: &'a str| Attributes {
            subresource,
            ..ask(AUTHENTICATION, "userextras", name)
        };
        if constrained
            && let Some(why) = wanted
                .extra
                .iter()
                .find_map(|(key, values)| wrong_extra(key, values))
        {
            steps.push(Step::Never(extra("", ""), why));
        }
        let values = wanted.extra.values().map(Vec::len).sum::<usize>();
        let each = wanted
            .extra
            .iter()
            .flat_map(|(key, values)| values.iter().map(|value| extra(key, value)));
        let many = values >= MANY || wanted.extra.len() >= MANY;
        steps.extend(all_or_each(constrained && many, extra("*", "*"), each));
        steps
    }

    /// Who the request acts as.
    #[must_use]
    pub fn into_user(self, way: Way) -> User {
        let mut user = self.wanted;
        let account = service_account(&user.name).filter(|_| user.groups.is_empty());
        if let Some((namespace, _)) = account {
            let of_namespace = format!("system:serviceaccounts:{namespace}");
            user.groups = vec!["system:serviceaccounts".into(), of_namespace];
        }
        if way != Way::Legacy && node(&user.name).is_some() {
            user.groups = vec!["system:nodes".into()];
        }
        let known = |group: &str| user.groups.iter().any(|own| own == group);
        if user.name == ANONYMOUS {
            if !known(UNAUTHENTICATED) {
                user.groups.push(UNAUTHENTICATED.into());
            }
        } else if !known(AUTHENTICATED) && !known(UNAUTHENTICATED) {
            user.groups.push(AUTHENTICATED.into());
        }
        user
    }
}

fn all_or_each<'a>(
    at_once: bool,
    all: Attributes<'a>,
    each: impl Iterator<Item = Attributes<'a>>,
) -> Vec<Step<'a>> {
    match at_once {
        true => vec![Step::Either(all, each.collect())],
        false => each.map(Step::Ask).collect(),
    }
}

/// What is wrong with an extra; only the constrained ways are so strict.
fn wrong_extra(key: &str, values: &[String]) -> Option<String> {
    let not_allowed = |what: &str| Some(format!("impersonating {what} is not allowed"));
    if key.is_empty() {
        return not_allowed("the empty string key in extra");
    }
    if let Some(why) = not_a_prefixed_path(key) {
        return Some(format!(
            "impersonating an invalid key in extra is not allowed: {why}"
        ));
    }
    if values.is_empty() {
        return not_allowed("empty values in extra");
    }
    if values.iter().any(String::is_empty) {
        return not_allowed("the empty string value in extra");
    }
    None
}

/// Source: apimachinery's `IsDomainPrefixedPath`.
fn not_a_prefixed_path(key: &str) -> Option<String> {
    let invalid = |value: &str, why: &str| Some(format!("extra.key: Invalid value: {value:?}: {why}"));
    let Some((host, path)) = key
        .split_once('/')
        .filter(|(host, path)| !host.is_empty() && !path.is_empty())
    else {
        return invalid(key, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    if let Some(why) = names::dns_subdomain(host).first() {
        return invalid(host, why);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    match path.bytes().all(plain) {
        true => None,
        false => invalid(
            path,
            r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')",
        ),
    }
}

/// The name in `system:node:NAME`.
fn node(user: &str) -> Option<&str> {
    let name = user.strip_prefix("system:node:")?;
    names::dns_subdomain(name).is_empty().then_some(name)
}

/// Namespace and name of `system:serviceaccount:NAMESPACE:NAME`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let good = names::dns_label(namespace).is_empty() && names::dns_subdomain(name).is_empty();
    good.then_some((namespace, name))
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
                let user = acting.map_or_else(User::anonymous, |acting| acting.into_user(Way::Legacy));
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
                400,
                r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"dev"}, Extra:map[string][]string(nil)} without impersonating a user name"#,
            )),
        );
    }

    /// `GROUP/NAMESPACE/RESOURCE/SUBRESOURCE/NAME` of each step.
    fn steps(way: Way, by: &User, pairs: &[(&'static str, &str)]) -> Vec<String> {
        let line = |asked: &Attributes<'_>| {
            assert!(asked.verb == way.verb(), "{}", asked.verb);
            let Attributes {
                group,
                namespace,
                resource,
                subresource,
                name,
                ..
            } = asked;
            format!("{group}/{namespace}/{resource}/{subresource}/{name}")
        };
        let acting = wanted(&headers(pairs)).expect("headers").expect("somebody");
        if !acting.is_by(way, by) {
            return vec!["no".into()];
        }
        let steps = acting.steps(way, by, None);
        let step = |step: &Step<'_>| match step {
            Step::Ask(asked) => line(asked),
            Step::Either(all, each) => format!("{} or {}", line(all), each.len()),
            Step::Never(asked, why) => format!("{}: {why}", line(asked)),
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn each_part_of_an_identity_is_asked_for() {
        let by = User::new("jane", &[]);
        assert_eq!(
            steps(Way::Legacy, &by, &[(USER, "system:serviceaccount:a:b")]),
            ["/a/serviceaccounts//b"]
        );
        let all = [
            (USER, "joe"),
            (GROUP, "dev"),
            (UID, "7"),
            ("impersonate-extra-scopes", "x"),
        ];
        assert_eq!(
            steps(Way::Legacy, &by, &all),
            [
                "//users//joe",
                "authentication.k8s.io//uids//7",
                "//groups//dev",
                "authentication.k8s.io//userextras/scopes/x",
            ]
        );
    }

    #[test]
    fn the_constrained_ways_are_for_one_kind_of_user_each() {
        let jane = User::new("jane", &[]);
        let mut agent = User::service_account("a", "agent");
        agent.extra.insert(NODE_NAME.into(), vec!["n1".into()]);
        let (node, account) = ((USER, "system:node:n1"), (USER, "system:serviceaccount:a:b"));
        let g = "authentication.k8s.io/";
        let check = |way: Way, by: &User, pairs: &[(&'static str, &str)], want: &[&str]| {
            assert_eq!(steps(way, by, pairs), want, "{way:?} {pairs:?}");
        };
        check(Way::AssociatedNode, &agent, &[node], &[&format!("{g}/nodes//*")]);
        check(Way::AssociatedNode, &agent, &[(USER, "system:node:n2")], &["no"]);
        check(Way::AssociatedNode, &jane, &[node], &["no"]);
        check(Way::ArbitraryNode, &jane, &[node], &[&format!("{g}/nodes//n1")]);
        check(Way::ArbitraryNode, &jane, &[node, (GROUP, "dev")], &["no"]);
        check(
            Way::ServiceAccount,
            &jane,
            &[account],
            &[&format!("{g}a/serviceaccounts//b")],
        );
        check(Way::ServiceAccount, &jane, &[account, (UID, "7")], &["no"]);
        for other in [node, account] {
            check(Way::UserInfo, &jane, &[other], &["no"]);
        }
        let (joe, users) = ((USER, "joe"), format!("{g}/users//joe"));
        check(
            Way::UserInfo,
            &jane,
            &[joe, (GROUP, "dev")],
            &[&users, &format!("{g}/groups//dev")],
        );
        let masters = format!("{g}/groups//system:masters");
        let never = format!("{masters}: impersonating the system:masters group is not allowed");
        check(
            Way::UserInfo,
            &jane,
            &[joe, (GROUP, MASTERS)],
            &[&users, &never, &masters],
        );
        let four = ["a", "b", "c", "d"].map(|name| (GROUP, name));
        let at_once = format!("{g}/groups//* or 4");
        check(
            Way::UserInfo,
            &jane,
            &[&[joe][..], &four].concat(),
            &[&users, &at_once],
        );
        let bare = steps(Way::UserInfo, &jane, &[joe, ("impersonate-extra-scopes", "x")]);
        assert!(
            bare[1].contains("must be a domain-prefixed path (such as \"acme.io/foo\")"),
            "{bare:?}"
        );
        check(
            Way::UserInfo,
            &jane,
            &[joe, ("impersonate-extra-acme.io%2fscopes", "x")],
            &[&users, &format!("{g}/userextras/acme.io/scopes/x")],
        );
        let acting = wanted(&headers(&[node])).expect("headers").expect("somebody");
        let groups = acting.into_user(Way::ArbitraryNode).groups;
        assert_eq!(groups, ["system:nodes", "system:authenticated"]);
        assert_eq!(
            Way::UserInfo.verb_on("list").as_deref(),
            Some("impersonate-on:user-info:list")
        );
        assert_eq!(Way::Legacy.verb_on("list"), None);
    }
}
