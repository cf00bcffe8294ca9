//! `/corten/v1/members`: the members with how they are, and the verbs. Knows HTTP; the decisions are in `change`.

use std::sync::Arc;

use corten_api::Status;
use corten_store::peers::Peers;
use corten_store::{Standing, Store};
use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::change::{hand_over, promote, remove};
use super::record::{Record, all, find};
use crate::metrics::Gauge;
use crate::query::Query;
use crate::respond::{self, Answer};
use crate::{ApiServer, store_status};

/// What is asked of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    List,
    /// Of one member, by id or name.
    Get(String),
    Remove(String),
    Promote(String),
    Transfer(String),
    /// The server that is asked removes itself.
    Leave,
}

impl Call {
    /// From what follows `/corten/v1/members` in the path; `None`: there is no such path. `Err`: not with this method.
    #[must_use]
    pub fn of(method: &Method, rest: &[&str]) -> Option<Result<Call, ()>> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let when = |fits: bool, call: Call| if fits { Ok(call) } else { Err(()) };
        Some(match rest {
            [] => when(reads, Call::List),
            ["leave"] if *method == Method::POST => Ok(Call::Leave),
            [name] if *method == Method::DELETE => Ok(Call::Remove((*name).to_owned())),
            [name] => when(reads, Call::Get((*name).to_owned())),
            [name, "promote"] => when(*method == Method::POST, Call::Promote((*name).to_owned())),
            [name, "transfer"] => when(*method == Method::POST, Call::Transfer((*name).to_owned())),
            _ => return None,
        })
    }
}

/// # Errors
/// `NotFound` for a member that is not recorded; those of the verbs.
pub async fn answer(server: &ApiServer, call: &Call, query: &Query) -> Result<Answer, Status> {
    let (store, peers) = (&server.inner().store, server.inner().config.peers.as_ref());
    let _asked = Gauge::new(&server.inner().metrics.member_calls);
    let named = |name: &str| {
        let records = all(&store.snapshot());
        find(&records, name)
            .cloned()
            .ok_or_else(|| Status::failure(404, "NotFound", format!("members {name:?} not found")))
    };
    let answer = match call {
        Call::List => {
            let records = all(&store.snapshot());
            list(store, peers, &records).await
        }
        Call::Get(name) => {
            let record = named(name)?;
            list(store, peers, &[record]).await
        }
        Call::Remove(name) => {
            let record = named(name)?;
            let force = query.get("force") == Some("true");
            remove(store, peers, &record, force).await?;
            json!({ "removed": format!("{:016x}", record.id) })
        }
        Call::Leave => {
            let record = named(&format!("{:016x}", store.identity().member))?;
            remove(store, peers, &record, false).await?;
            json!({ "removed": format!("{:016x}", record.id) })
        }
        Call::Promote(name) => {
            let record = named(name)?;
            promote(store, &record).await?;
            json!({ "promoted": format!("{:016x}", record.id) })
        }
        Call::Transfer(name) => {
            let record = named(name)?;
            if record.witness {
                return Err(Status::failure(409, "Conflict", "a witness does not lead"));
            }
            store.read_barrier().await.map_err(|error| store_status(&error))?;
            let from = store.status().leader.unwrap_or_default();
            hand_over(store, from, Some(record.id)).await?;
            json!({ "leader": format!("{:016x}", record.id) })
        }
    };
    Ok(respond::json(StatusCode::OK, answer.to_string()))
}

/// Every member says itself how it is; who does not answer is not healthy.
async fn list(store: &Store, peers: Option<&Peers>, records: &[Record]) -> Value {
    let standing = Arc::new(store.standing().borrow().clone());
    let told = records.iter().filter(|record| !record.left).map(|record| {
        let standing = standing.clone();
        async move {
            let about = match peers {
                Some(peers) if record.id != standing.member => {
                    peers.about(store.identity(), record.id).await.ok()
                }
                Some(peers) => peers.own_about(),
                None => None,
            };
            let about: Option<Value> = about.and_then(|text| serde_json::from_slice(&text).ok());
            member(&standing, record, about)
        }
    });
    let mut items = join_all(told).await;
    let newest = items
        .iter()
        .filter_map(|item| item["about"]["lastIndex"].as_u64())
        .max();
    for item in &mut items {
        let applied = item["about"]["applied"].as_u64();
        if let (Some(newest), Some(applied)) = (newest, applied) {
            item["lag"] = newest.saturating_sub(applied).into();
        }
    }
    json!({
        "cluster": format!("{:016x}", store.identity().cluster),
        "term": standing.term,
        "leader": standing.leader.map(|id| format!("{id:016x}")),
        "members": items,
    })
}

fn member(standing: &Standing, record: &Record, about: Option<Value>) -> Value {
    let role = if record.removed {
        "leaving"
    } else if standing.leader == Some(record.id) {
        "leader"
    } else if standing.members.voters.contains(&record.id) {
        if record.witness { "witness" } else { "voter" }
    } else if standing.members.learners.contains(&record.id) {
        "learner"
    } else {
        "none"
    };
    let health = match &about {
        None => "unreachable",
        Some(about) if about["repairing"] == true => "repairing",
        Some(about) if about["leader"].is_string() => "healthy",
        Some(_) => "no leader",
    };
    json!({
        "id": format!("{:016x}", record.id),
        "name": record.name,
        "peer": record.peer,
        "api": record.api,
        "witness": record.witness,
        "role": role,
        "health": health,
        "about": about,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        let of = |method: Method, path: &str| {
            let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
            Call::of(&method, &parts)
        };
        assert_eq!(of(Method::GET, ""), Some(Ok(Call::List)));
        assert_eq!(of(Method::POST, ""), Some(Err(())));
        assert_eq!(of(Method::DELETE, "a"), Some(Ok(Call::Remove("a".into()))));
        assert_eq!(
            of(Method::POST, "a/transfer"),
            Some(Ok(Call::Transfer("a".into())))
        );
        assert_eq!(of(Method::GET, "a/promote"), Some(Err(())));
        assert_eq!(of(Method::GET, "a/b/c"), None);
        assert_eq!(of(Method::POST, "leave"), Some(Ok(Call::Leave)));
        assert_eq!(of(Method::GET, "leave"), Some(Ok(Call::Get("leave".into()))));
    }
}
