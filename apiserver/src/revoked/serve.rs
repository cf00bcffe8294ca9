//! `/corten/v1/revoked`: the list, and the verbs that change it. Only `system:masters` has the right to these paths, unless
//! a role gives it.

use corten_api::Status;
use corten_store::{Op, Precondition, Txn, TxnOutcome};
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::json;

use super::{MAX_ENTRIES, Revoked, entries, key};
use crate::body::RequestBody;
use crate::respond::{self, Answer};
use crate::{ApiServer, User, store_status};

/// What is asked of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    List,
    /// Of what the body names.
    Revoke,
    /// Takes an entry back, by its id.
    Restore(String),
}

impl Call {
    /// From what follows `/corten/v1/revoked` in the path; `None`: not with this method.
    #[must_use]
    pub fn of(method: &Method, rest: &[&str]) -> Option<Call> {
        Some(match (rest, method) {
            ([], &Method::GET | &Method::HEAD) => Call::List,
            ([], &Method::POST) => Call::Revoke,
            // Names of users have slashes.
            ([_, ..], &Method::DELETE) => Call::Restore(rest.join("/")),
            _ => return None,
        })
    }
}

/// # Errors
/// `BadRequest` for an entry that cannot be, `NotFound` for one that is not there, `Forbidden` when the list is full.
pub async fn answer(
    server: &ApiServer,
    user: &User,
    call: Call,
    body: RequestBody,
) -> Result<Answer, Status> {
    let store = &server.inner().store;
    let failed = |error| store_status(&error);
    match call {
        Call::List => {
            store.read_barrier().await.map_err(failed)?;
            let all: Vec<_> = entries(&store.snapshot())
                .into_values()
                .map(|entry| json!({ "id": entry.id(), "entry": entry }))
                .collect();
            Ok(respond::json(StatusCode::OK, json!({ "items": all }).to_string()))
        }
        Call::Revoke => {
            let bytes = crate::body::read(body)
                .await
                .map_err(|error| Status::bad_request(error.to_string()))?;
            let asked: Revoked =
                serde_json::from_slice(&bytes).map_err(|error| Status::bad_request(error.to_string()))?;
            let mut entry = asked.checked().map_err(Status::bad_request)?;
            (entry.at, entry.by) = (Timestamp::now().as_second(), user.name.clone());
            store.read_barrier().await.map_err(failed)?;
            if entries(&store.snapshot()).len() >= MAX_ENTRIES {
                let full = format!("{MAX_ENTRIES} entries are the most: take some back first");
                return Err(Status::failure(403, "Forbidden", full));
            }
            let put = Op::Put {
                key: key(&entry.id()),
                value: serde_json::to_vec(&entry).map_err(Status::internal)?.into(),
            };
            let txn = Txn {
                preconditions: Vec::new(),
                ops: vec![put],
            };
            let written = store.txn(txn).await.map_err(failed)?;
            if let TxnOutcome::Committed { revision, .. } = written {
                // Refused here from now on; the other servers follow.
                server.inner().revoked.followed.wait(revision).await;
            }
            tracing::warn!(id = entry.id(), by = entry.by, "a certificate is revoked");
            let told = json!({ "id": entry.id(), "entry": entry });
            Ok(respond::json(StatusCode::CREATED, told.to_string()))
        }
        Call::Restore(id) => {
            let txn = Txn {
                preconditions: vec![Precondition::Exists(key(&id))],
                ops: vec![Op::Delete { key: key(&id) }],
            };
            match store.txn(txn).await.map_err(failed)? {
                TxnOutcome::Committed { revision, .. } => {
                    server.inner().revoked.followed.wait(revision).await;
                    Ok(respond::json(
                        StatusCode::OK,
                        json!({ "restored": id }).to_string(),
                    ))
                }
                _ => Err(Status::failure(404, "NotFound", format!("no entry {id:?}"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        let of = |method: Method, rest: &[&str]| Call::of(&method, rest);
        assert_eq!(of(Method::GET, &[]), Some(Call::List));
        assert_eq!(of(Method::POST, &[]), Some(Call::Revoke));
        assert_eq!(of(Method::DELETE, &[]), None);
        let id = Call::Restore("user:a/b".into());
        assert_eq!(of(Method::DELETE, &["user:a", "b"]), Some(id));
        assert_eq!(of(Method::GET, &["user:a"]), None);
    }
}
