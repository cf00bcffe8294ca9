//! What others need to check our tokens: OpenID discovery and the public key.

use http::{HeaderValue, StatusCode, header};

use crate::Inner;
use crate::body::Body;
use crate::respond::{self, Answer};

/// How long others may keep the documents. Source: Kubernetes `routes/openidmetadata.go`.
const CACHE: &str = "public, max-age=3600";

fn document(content_type: &'static str, text: String) -> Answer {
    let mut answer = respond::with_type(StatusCode::OK, content_type, Body::from(text));
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE));
    answer
}

/// `/.well-known/openid-configuration`; 404 when there are no tokens.
pub fn configuration(inner: &Inner) -> Answer {
    let Some(issuer) = &inner.config.tokens else {
        return respond::page_not_found();
    };
    let config = &inner.config;
    let address = std::net::SocketAddr::new(config.advertise_address, config.port);
    let keys = format!("https://{address}/openid/v1/jwks");
    document("application/json", issuer.discovery(&keys).to_string())
}

/// `/openid/v1/jwks`; 404 when there are no tokens.
pub fn keys(inner: &Inner) -> Answer {
    match &inner.config.tokens {
        None => respond::page_not_found(),
        Some(issuer) => document("application/jwk-set+json", issuer.jwks().to_string()),
    }
}
