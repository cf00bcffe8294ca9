//! Users by JWTs of other issuers: OpenID Connect.
//!
//! `config` says which are believed, `jwt` what a token proves, both pure; this file fetches the issuers' keys and keeps them.
//! Must not know what a user may do. Source: Kubernetes `plugin/pkg/authenticator/token/oidc`.

pub mod config;
pub mod jwt;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Mutex;

pub use config::Configuration;

use super::Rejected;
use crate::outbound::{self, Place, Trust};
use crate::{Inner, User};
use config::Jwt;
use jwt::Keys;

/// Between two requests for an issuer's keys, so that tokens with made-up key names cost it nothing.
const REFRESH_PAUSE: Duration = Duration::from_secs(10);
/// For one document.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
const MAX_DOCUMENT: usize = 1 << 20;

/// One issuer that is believed.
#[derive(Debug)]
pub struct Provider {
    jwt: Jwt,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Arc<Keys>,
    fetched: Option<Instant>,
}

impl Provider {
    #[must_use]
    pub fn new(jwt: Jwt) -> Provider {
        Provider {
            jwt,
            known: Mutex::default(),
        }
    }

    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.jwt.issuer.url
    }

    /// Who bears a token of this issuer.
    ///
    /// # Errors
    /// Why the token is not believed; also when the issuer cannot be asked for its keys.
    pub(crate) async fn user(&self, inner: &Inner, token: &str, now: Timestamp) -> Result<User, Rejected> {
        let because = |why: &str| Rejected::Because(why.to_owned());
        let keys = self.known.lock().await.keys.clone();
        let claims = match keys.verify(token).map_err(because)? {
            Some(claims) => claims,
            // The issuer may have new keys.
            None => {
                let keys = self.refresh(inner, &keys).await.map_err(|why| because(&why))?;
                keys.verify(token)
                    .map_err(because)?
                    .ok_or_else(|| because("oidc: verify token: failed to verify signature: no key fits"))?
            }
        };
        if claims["iss"] != self.jwt.issuer.url.as_str() {
            return Err(Rejected::NotOurs);
        }
        jwt::user(&self.jwt, &claims, now).map_err(Rejected::Because)
    }

    /// The newest keys, unless they were asked for a moment ago or somebody else got newer ones than `tried`.
    async fn refresh(&self, inner: &Inner, tried: &Arc<Keys>) -> Result<Arc<Keys>, String> {
        let mut known = self.known.lock().await;
        let recent = known.fetched.is_some_and(|at| at.elapsed() < REFRESH_PAUSE);
        if recent || !Arc::ptr_eq(&known.keys, tried) {
            return Ok(known.keys.clone());
        }
        known.fetched = Some(Instant::now());
        let fetched = tokio::time::timeout(2 * FETCH_LIMIT, self.fetch(inner))
            .await
            .unwrap_or_else(|_| Err("its issuer does not answer".into()));
        match fetched {
            Ok(keys) => {
                known.keys = Arc::new(keys);
                Ok(known.keys.clone())
            }
            Err(why) => {
                tracing::warn!(
                    issuer = self.issuer(),
                    why,
                    "the keys of an issuer of tokens were not fetched"
                );
                Err(format!(
                    "oidc: authenticator for issuer {:?} is not initialized: {why}",
                    self.issuer()
                ))
            }
        }
    }

    async fn fetch(&self, inner: &Inner) -> Result<Keys, String> {
        let issuer = &self.jwt.issuer;
        let url = match issuer.discovery_url.as_str() {
            "" => format!(
                "{}/.well-known/openid-configuration",
                issuer.url.trim_end_matches('/')
            ),
            url => url.to_owned(),
        };
        let document = self.get(inner, &url).await?;
        if document["issuer"] != issuer.url.as_str() {
            return Err(format!("the issuer at {url} calls itself {}", document["issuer"]));
        }
        let keys = document["jwks_uri"]
            .as_str()
            .ok_or("the issuer names no jwks_uri")?;
        Ok(Keys::parse(&self.get(inner, keys).await?))
    }

    async fn get(&self, inner: &Inner, url: &str) -> Result<Value, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("{url}: URL scheme must be https"));
        }
        let host = uri.host().ok_or_else(|| format!("{url}: no host"))?;
        let place = Place::Host {
            name: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(443),
        };
        let trust = match self.jwt.issuer.certificate_authority.as_bytes() {
            [] => Trust::Host,
            pem => Trust::Bundle(pem),
        };
        let tls = outbound::tls::client(&trust, None)?;
        let exchange = async {
            let (wire, _) = outbound::connect(inner, &place, tls).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await.map_err(text)?;
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let request = Request::get(path)
                .header(header::HOST, place.authority())
                .header(header::ACCEPT, "application/json")
                .body(Empty::<Bytes>::new())
                .map_err(text)?;
            tokio::spawn(connection);
            let response = sender.send_request(request).await.map_err(text)?;
            if response.status() != http::StatusCode::OK {
                return Err(format!("{url}: {}", response.status()));
            }
            let body = Limited::new(response.into_body(), MAX_DOCUMENT)
                .collect()
                .await
                .map_err(text)?;
            serde_json::from_slice(&body.to_bytes()).map_err(text)
        };
        tokio::time::timeout(FETCH_LIMIT, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("{url}: no answer in time")))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
