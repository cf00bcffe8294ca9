//! Who the bearer of a token is: the signature, the claims, then a look at what the token is bound to.

use corten_api::{Status, registry};
use corten_store::Snapshot;
use jiff::Timestamp;
use serde_json::Value;

use super::bootstrap::{self, Refused, Token, Usage};
use super::{Rejected, claims};
use crate::read::point::{self, Point};
use crate::stored::Stored;
use crate::write::Subject;
use crate::{Inner, User, damaged};

/// The user, and those of `audiences` the token is for. A token of another kind than ServiceAccounts' has no audience: it
/// is for all of them.
///
/// # Errors
/// See [`Rejected`]; also when the store cannot be asked.
pub async fn bearer(
    inner: &Inner,
    token: &str,
    audiences: &[String],
    now: Timestamp,
) -> Result<(User, Vec<String>), Rejected> {
    if let Some(token) = Token::parse(token) {
        return match bootstrap(inner, token, Usage::Authentication, now).await {
            Ok(user) => Ok((user, audiences.to_vec())),
            Err(refused) => {
                tracing::debug!(id = token.id, %refused, "a bootstrap token was refused");
                Err(Rejected::NotOurs)
            }
        };
    }
    if let Some(provider) = provider(inner, token) {
        let own = inner
            .config
            .tokens
            .as_deref()
            .map(super::Issuer::audiences)
            .unwrap_or_default();
        let common: Vec<String> = audiences.iter().filter(|a| own.contains(a)).cloned().collect();
        if common.is_empty() && !audiences.is_empty() {
            return Err(Rejected::NotOurs);
        }
        return Ok((provider.user(inner, token, now).await?, common));
    }
    let issuer = inner.config.tokens.as_deref().ok_or(Rejected::NotOurs)?;
    let said = issuer.verify(token)?;
    let common = claims::check(&said, audiences, now)?;
    // What this server has is enough to believe a token. Before one is refused the newest state is asked: its
    // account may have been made through another server a moment ago.
    let local = inner.store.snapshot();
    if claims::check_bound(&said, now, |plural, namespace, name| {
        find_metadata(&local, plural, namespace, name)
    })
    .is_err()
    {
        let newest = point::snapshot(&inner.store, &Point::Newest, "")
            .await
            .map_err(|status| Rejected::Because(status.message))?;
        claims::check_bound(&said, now, |plural, namespace, name| {
            find_metadata(&newest, plural, namespace, name)
        })?;
    }
    Ok((claims::user(&said), common))
}

/// The issuer a token claims to be of, if it is one of the others that are believed.
fn provider<'a>(inner: &'a Inner, token: &str) -> Option<&'a super::oidc::Provider> {
    if inner.config.providers.is_empty() {
        return None;
    }
    let claims = super::jws::unverified_claims(token)?;
    let all = inner.config.providers.iter().map(std::sync::Arc::as_ref);
    all.into_iter()
        .find(|provider| claims["iss"] == provider.issuer())
}

/// Who bears a bootstrap token, by what this server has; before one is refused the newest state is asked.
///
/// # Errors
/// See [`Refused`]; a store that cannot be asked knows no token.
pub async fn bootstrap(
    inner: &Inner,
    token: Token<'_>,
    usage: Usage,
    now: Timestamp,
) -> Result<User, Refused> {
    let by = |snapshot: &Snapshot| {
        let secret = find(snapshot, "secrets", bootstrap::NAMESPACE, &token.secret_name());
        secret
            .map_err(|_| Refused::Unknown)
            .and_then(|secret| token.check(&secret, usage, now))
    };
    match by(&inner.store.snapshot()) {
        Ok(user) => Ok(user),
        Err(_) => match point::snapshot(&inner.store, &Point::Newest, "").await {
            Ok(newest) => by(&newest),
            Err(_) => Err(Refused::Unknown),
        },
    }
}

/// The metadata of an object of the core group; of a Pod a tenth of the whole, and on every request.
///
/// # Errors
/// As [`find`].
fn find_metadata(snapshot: &Snapshot, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let ty = registry()
        .lookup("", "v1", plural)
        .ok_or_else(Status::no_such_resource)?;
    let entry = snapshot.get(&Subject { ty, namespace }.key(name));
    let entry = entry.ok_or_else(|| Status::not_found(ty.qualified(), name))?;
    let metadata = Stored::new(&entry.value).and_then(|stored| stored.metadata());
    Ok(serde_json::json!({ "metadata": metadata.map_err(damaged)? }))
}

/// An object of the core group.
///
/// # Errors
/// `NotFound`, or a stored value that is not ours.
pub fn find(snapshot: &Snapshot, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let ty = registry()
        .lookup("", "v1", plural)
        .ok_or_else(Status::no_such_resource)?;
    let subject = Subject { ty, namespace };
    Ok(subject.read(snapshot, name)?.value)
}
