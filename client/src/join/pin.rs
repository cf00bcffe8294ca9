//! The first words with a server one knows only by a token.
//!
//! The CA is fetched over a connection that proves nothing, compared with the hash in the token, and then everything is
//! said again over one that proves the server to be signed by that CA.

use http::{Method, Request, Uri};
use kube::Config;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BadToken, CaHash, JoinToken};
use crate::connect::{ConnectError, from_config};
use crate::runner::chain;

pub(super) const CA_PATH: &str = "/corten/v1/ca";
/// The usage of tokens that nodes join with.
const FOR_NODES: &str = "usage-bootstrap-authentication";
const TOKEN_PATH: &str = "/corten/v1/token";
const SERVERS_PATH: &str = "/corten/v1/servers";

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    BadToken(#[from] BadToken),
    #[error("{url} is no address of a server such as https://192.0.2.10:6443")]
    BadUrl { url: String },
    #[error("{url} is not there: {reason}")]
    Unreachable { url: String, reason: String },
    #[error(
        "{url} is not the cluster that the token is for: the token pins the CA {pinned}, the server shows {}",
        .shown.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    OtherCa {
        url: String,
        pinned: CaHash,
        shown: Vec<CaHash>,
    },
    #[error(
        "{url} shows the right CA, but its own certificate is not signed by it or not for this address: {reason}"
    )]
    Impostor { url: String, reason: String },
    /// The server understood and said no.
    #[error("{url} refused: {reason}")]
    Refused { url: String, code: u16, reason: String },
    #[error("the token {id} is for servers: make one for nodes with `corten token create`")]
    NotForNodes { id: String },
    #[error("the answer of {url} is not understood: {reason}")]
    Misunderstood { url: String, reason: String },
    #[error("build a client")]
    Client(#[from] ConnectError),
    #[error("{0}")]
    Request(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A server that was proved to be the token's.
pub struct Pinned {
    url: String,
    /// The cluster's CA certificates, PEM.
    pub ca_pem: String,
    id: String,
    usages: Vec<String>,
    /// Acts with the token.
    client: kube::Client,
}

#[derive(serde::Deserialize)]
struct Usages {
    usages: Vec<String>,
}

/// Proves the server at `url` to be of the cluster that `token` pins, and the token to be good.
///
/// # Errors
/// Each in words for the one who joins.
pub async fn pin(url: &str, token: &JoinToken) -> Result<Pinned, JoinError> {
    let bad = || JoinError::BadUrl { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| bad())?;
    if uri.scheme_str() != Some("https") || uri.host().is_none() {
        return Err(bad());
    }
    let mut blind = Config::new(uri.clone());
    blind.accept_invalid_certs = true;
    let shown = text(url, &from_config(blind)?, CA_PATH).await?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(shown.as_bytes())
        .filter_map(Result::ok)
        .collect();
    let Some(pinned) = certificates
        .iter()
        .find(|certificate| CaHash::of(certificate) == token.ca)
    else {
        return Err(JoinError::OtherCa {
            url: url.to_owned(),
            pinned: token.ca,
            shown: certificates.iter().map(CaHash::of).collect(),
        });
    };
    let mut config = Config::new(uri);
    config.root_cert = Some(vec![pinned.to_vec()]);
    config.auth_info.token = Some(token.bearer().to_owned().into());
    let client = from_config(config)?;
    // Only what comes over the proved connection is believed: between the two an impostor may have sat.
    let ca_pem = text(url, &client, CA_PATH).await.map_err(|error| match error {
        JoinError::Unreachable { url, reason } => JoinError::Impostor { url, reason },
        other => other,
    })?;
    let usages = text(url, &client, TOKEN_PATH).await?;
    let usages: Usages = serde_json::from_str(&usages).map_err(|error| JoinError::Misunderstood {
        url: url.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Pinned {
        url: url.to_owned(),
        id: token.id().to_owned(),
        ca_pem,
        usages: usages.usages,
        client,
    })
}

impl Pinned {
    /// Acts as the token's bearer.
    ///
    /// # Errors
    /// The token is for servers.
    pub fn node(&self) -> Result<&kube::Client, JoinError> {
        match self.usages.iter().any(|usage| usage == FOR_NODES) {
            true => Ok(&self.client),
            false => Err(JoinError::NotForNodes { id: self.id.clone() }),
        }
    }

    /// Asks to be taken in as a server; the token must be one for servers. The answer holds the cluster's keys.
    ///
    /// # Errors
    /// What the server says.
    pub async fn join_servers<T: DeserializeOwned>(&self, request: &impl Serialize) -> Result<T, JoinError> {
        let body = serde_json::to_vec(request).map_err(|error| self.misunderstood(&error))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(SERVERS_PATH)
            .body(body)
            .map_err(|error| self.misunderstood(&error))?;
        let answer = self.client.request_text(request).await;
        let answer = answer.map_err(|error| why(&self.url, error))?;
        serde_json::from_str(&answer).map_err(|error| self.misunderstood(&error))
    }

    fn misunderstood(&self, reason: &dyn std::fmt::Display) -> JoinError {
        JoinError::Misunderstood {
            url: self.url.clone(),
            reason: reason.to_string(),
        }
    }
}

async fn text(url: &str, client: &kube::Client, path: &str) -> Result<String, JoinError> {
    let request = Request::get(path).body(Vec::new());
    let request = request.map_err(|error| JoinError::Request(error.to_string()))?;
    client
        .request_text(request)
        .await
        .map_err(|error| why(url, error))
}

fn why(url: &str, error: kube::Error) -> JoinError {
    let url = url.to_owned();
    match error {
        kube::Error::Api(status) => JoinError::Refused {
            url,
            code: status.code,
            reason: status.message.clone(),
        },
        error => JoinError::Unreachable {
            url,
            reason: chain(&error),
        },
    }
}
