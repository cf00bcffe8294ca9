//! Questions about users and their permissions: answered on the spot, never stored.
//!
//! `access` and `token_request` decide on plain data; this file reads what they need. Must not know how a user was
//! authenticated (`identity`, `tokens`) nor what one may do (`authorize`): it asks them.

mod access;
mod token_request;

use corten_api::field::FieldErrors;
use corten_api::kinds::authorization::review;
use corten_api::resource::FieldValidation;
use corten_api::{ResourceType, Status, meta, time};
use corten_store::Snapshot;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::tokens::authenticate::{self, bearer};
use crate::{ApiServer, Inner, User, audit};

pub use token_request::Request as TokenRequest;

/// True for types whose objects are questions.
#[must_use]
pub fn is_review(ty: &ResourceType) -> bool {
    matches!(&*ty.group, "authentication.k8s.io" | "authorization.k8s.io")
}

/// The review with its answer.
///
/// # Errors
/// `BadRequest` or `Invalid` for a question that cannot be asked.
pub async fn answer(
    server: &ApiServer,
    ty: &ResourceType,
    user: &User,
    namespace: &str,
    mut review: Value,
    now: Timestamp,
) -> Result<Value, Status> {
    fill_namespace(&mut review, namespace)?;
    let mut errors = FieldErrors::default();
    review::validate(&ty.kind, &review, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid(ty.qualified_kind(), "", &errors));
    }
    let status = match &*ty.kind {
        "SelfSubjectReview" => {
            meta::set(&mut review, "creationTimestamp", time::format_time(now).into());
            json!({"userInfo": user_info(user)})
        }
        "TokenReview" => token_review(server.inner(), &review["spec"], now).await?,
        "SelfSubjectAccessReview" => may(server, user, &review["spec"]).await,
        "SelfSubjectRulesReview" => rules(server, user, access::namespace(&review["spec"])?).await,
        _ => may(server, &access::subject(&review["spec"]), &review["spec"]).await,
    };
    review["status"] = status;
    match ty.conform(&review, FieldValidation::Ignore) {
        Ok(canonical) => Ok(canonical.value),
        Err(misfit) => Err(Status::internal(misfit.text)),
    }
}

async fn may(server: &ApiServer, user: &User, spec: &Value) -> Value {
    let fields = access::fields(spec);
    let asked = access::attributes(user, spec, fields.as_ref());
    access::status(&server.authorize(&asked).await)
}

async fn rules(server: &ApiServer, user: &User, namespace: &str) -> Value {
    server.catch_up().await;
    let rules = server.inner().rules.get();
    let (own, error) = rules.of(user, namespace);
    // What a node may do depends on its Pods, which no list of rules can say.
    let of_node = crate::node::of_user(user)
        .map(|_| "node authorizer does not support user rule resolution".to_owned());
    let error = match (of_node, error) {
        (Some(one), Some(two)) => Some(format!("[{one}, {two}]")),
        (one, two) => one.or(two),
    };
    access::rules(own.into_iter(), error)
}

/// A namespaced review takes the namespace of the request.
fn fill_namespace(review: &mut Value, namespace: &str) -> Result<(), Status> {
    match meta::namespace(review) {
        "" if namespace.is_empty() => {}
        "" => meta::set(review, "namespace", namespace.into()),
        own if own == namespace => {}
        _ => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// `authentication.v1.UserInfo`.
fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    info.insert("username".into(), user.name.clone().into());
    if !user.uid.is_empty() {
        info.insert("uid".into(), user.uid.clone().into());
    }
    info.insert("groups".into(), user.groups.clone().into());
    if !user.extra.is_empty() {
        info.insert("extra".into(), json!(user.extra));
    }
    Value::Object(info)
}

async fn token_review(inner: &Inner, spec: &Value, now: Timestamp) -> Result<Value, Status> {
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked: Vec<String> = strings(&spec["audiences"]);
    let audiences = match (&inner.config.tokens, asked.is_empty()) {
        (Some(tokens), true) => tokens.audiences(),
        _ => asked,
    };
    Ok(match bearer(inner, token, &audiences, now).await {
        Ok((user, audiences)) => json!({
            "authenticated": true, "user": user_info(&user), "audiences": audiences,
        }),
        Err(rejected) => json!({"error": rejected.to_string(), "user": {}}),
    })
}

fn strings(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// A TokenRequest with its token, for the ServiceAccount `name` of `namespace`, and a warning. `id` names the token.
///
/// # Errors
/// `NotFound` for the account or what the token is to be bound to, `Invalid`, `Conflict` for another uid.
pub fn token(
    inner: &Inner,
    snapshot: &Snapshot,
    (namespace, name): (&str, &str),
    request: Value,
    id: &str,
    now: Timestamp,
) -> Result<(Value, Option<String>), Status> {
    let issuer = inner
        .config
        .tokens
        .as_deref()
        .ok_or_else(Status::no_such_resource)?;
    let find =
        |plural: &str, namespace: &str, name: &str| authenticate::find(snapshot, plural, namespace, name);
    let request = TokenRequest::new(request, namespace, name)?;
    let account = find("serviceaccounts", namespace, name)?;
    let mut request = request.complete(&account, issuer.audiences(), now)?;
    let told = request.shorten(&inner.config.strict);
    let bound = request.bound(namespace, name, find)?;
    let answer = request
        .answer(issuer, &account, &bound, id, now)
        .map_err(Status::internal)?;
    audit::note(|trail| {
        trail.annotate(
            "authentication.kubernetes.io/issued-credential-id",
            format!("JTI={id}"),
        )
    });
    Ok((answer, told))
}
