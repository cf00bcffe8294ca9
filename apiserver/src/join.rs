//! How a machine that knows a token and nothing else joins: `/corten/v1/ca`, `/corten/v1/token`, `/corten/v1/servers`.
//!
//! Knows the wire form of these three and who may ask. Must not know where keys are kept nor how the store takes a member
//! in: a [`Cluster`] does that. They are served before authentication, for each carries its own proof.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use corten_api::Status;
use corten_api::status::Qualified;
use futures::future::BoxFuture;
use http::StatusCode;
use http::request::Parts;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::body::{Body, RequestBody};
use crate::respond::{self, Answer};
use crate::service::bearer_token;
use crate::tokens::authenticate;
use crate::tokens::bootstrap::{Refused, Token, Usage};
use crate::{ApiServer, User};

pub const CA_PATH: &str = "/corten/v1/ca";
pub const TOKEN_PATH: &str = "/corten/v1/token";
pub const SERVERS_PATH: &str = "/corten/v1/servers";

/// Which of them is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// `GET`: the cluster's CA certificates, PEM, the newest first. Needs no credentials: a token pins one of them.
    Ca,
    /// `GET` with a bootstrap token: what it is good for, or why it is not.
    Token,
    /// `POST` of a [`ServerRequest`] with a token for servers: a [`ServerShare`].
    Servers,
}

/// A server that wants to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerRequest {
    /// The id it gave itself: 64 random bits, kept in its data folder. As a text: JSON's numbers end at 53 bits.
    #[serde(with = "as_text")]
    pub member: u64,
    /// Where other members reach it.
    pub peer: SocketAddr,
    /// Where clients reach it.
    pub api: SocketAddr,
    /// Its host's name, for people.
    #[serde(default)]
    pub name: String,
    /// It votes and holds the log, but no objects.
    #[serde(default)]
    pub witness: bool,
}

/// What a joining server gets: all that servers of one cluster share.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerShare {
    /// The cluster's own name, the same for ever.
    #[serde(default)]
    pub cluster_id: String,
    /// Files to put below `pki/`, by name: authorities with their keys, keys of ServiceAccounts, encryption keys. All secret.
    pub files: BTreeMap<String, String>,
    #[serde(with = "as_text")]
    pub service_cidr: Ipv4Net,
    #[serde(with = "as_text")]
    pub cluster_cidr: Ipv4Net,
    /// The members so far, the new one not among them.
    pub members: Vec<Member>,
}

impl std::fmt::Debug for ServerShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerShare")
            .field("files", &self.files.keys())
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// A member of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    #[serde(with = "as_text")]
    pub id: u64,
    pub peer: SocketAddr,
}

/// The cluster as a joining server needs it.
pub trait Cluster: std::fmt::Debug + Send + Sync {
    /// Takes the server in, or one that was taken in already under the same id.
    ///
    /// # Errors
    /// In words for the one who starts it.
    fn admit(&self, request: ServerRequest) -> BoxFuture<'_, Result<ServerShare, Status>>;
}

mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// # Errors
/// `Unauthorized` with the reason for a token that is no good; what [`Cluster::admit`] says.
pub async fn answer(
    server: &ApiServer,
    what: Join,
    parts: &Parts,
    body: RequestBody,
) -> Result<Answer, Status> {
    let config = &server.inner().config;
    match what {
        Join::Ca => Ok(respond::with_type(
            StatusCode::OK,
            "application/x-pem-file",
            Body::from(config.ca.bundle().to_string()),
        )),
        Join::Token => {
            let usages = [Usage::Authentication, Usage::Server];
            let mut good = Vec::new();
            let mut refused = None;
            for usage in usages {
                match bearer(server, parts, usage).await {
                    Ok(_) => good.push(usage.key()),
                    Err(status) => refused = Some(status),
                }
            }
            match refused {
                Some(status) if good.is_empty() => Err(status),
                _ => Ok(json_answer(&json!({ "usages": good }))),
            }
        }
        Join::Servers => {
            let user = bearer(server, parts, Usage::Server).await?;
            let Some(cluster) = &config.cluster else {
                return Err(Status::service_unavailable(
                    "this server takes no other server in",
                ));
            };
            let bytes = crate::body::read(body)
                .await
                .map_err(|error| Status::bad_request(error.to_string()))?;
            let request: ServerRequest = serde_json::from_slice(&bytes)
                .map_err(|error| Status::bad_request(format!("a server's request: {error}")))?;
            tracing::info!(member = request.member, peer = %request.peer, by = user.name, "a server joins");
            let share = cluster.admit(request).await?;
            Ok(json_answer(
                &serde_json::to_value(&share).map_err(Status::internal)?,
            ))
        }
    }
}

fn json_answer(value: &serde_json::Value) -> Answer {
    respond::json(StatusCode::OK, value.to_string())
}

async fn bearer(server: &ApiServer, parts: &Parts, usage: Usage) -> Result<User, Status> {
    let refused = |why: String| Status::failure(401, "Unauthorized", why);
    let text = bearer_token(parts).ok_or_else(|| refused("a bootstrap token is required".into()))?;
    let token = Token::parse(text).ok_or_else(|| refused(Refused::Unknown.to_string()))?;
    authenticate::bootstrap(server.inner(), token, usage, Timestamp::now())
        .await
        .map_err(|error| match error {
            Refused::NotFor { .. } => Status::forbidden(Qualified::new("", ""), "", error),
            error => refused(error.to_string()),
        })
}
