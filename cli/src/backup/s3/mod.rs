//! A bucket of an S3-compatible store that backups are kept in: list, put, get and delete, one connection a request. Knows
//! HTTP and XML as S3 speaks them, not what is kept.

mod settings;
pub mod sign;
#[cfg(test)]
mod tests;
mod upload;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use settings::Bucket;
use sign::{Signed, encode_path, encode_query, hex};

/// Without a byte for so long, a transfer is given up.
const STALL: Duration = Duration::from_secs(60);
/// Longest answer that is not an object.
const MAX_ANSWER: usize = 8 << 20;
/// Pages of a list, of 1,000 objects each.
const MAX_PAGES: usize = 1000;

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What a request is about, besides the bucket.
struct Ask<'a> {
    method: Method,
    /// Below the bucket's prefix; `None`: the bucket.
    name: Option<&'a str>,
    query: &'a [(&'a str, &'a str)],
    /// First and last byte wanted.
    range: Option<(u64, u64)>,
}

impl Bucket {
    /// Names and sizes of what is kept below the prefix.
    ///
    /// # Errors
    /// In words for the user.
    pub async fn list(&self) -> Result<Vec<(String, u64)>> {
        let (mut found, mut next) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let mut query = vec![("list-type", "2"), ("prefix", &self.prefix)];
            if let Some(token) = &next {
                query.push(("continuation-token", token));
            }
            let ask = Ask {
                method: Method::GET,
                name: None,
                query: &query,
                range: None,
            };
            let answer = self.send(ask, None).await?;
            let text = text(answer).await?;
            for object in elements(&text, "Contents") {
                let key = element(object, "Key").context("the list names no key")?;
                let size = element(object, "Size").and_then(|size| size.parse().ok());
                if let Some(name) = key.strip_prefix(&self.prefix) {
                    found.push((name.to_owned(), size.unwrap_or(0)));
                }
            }
            next = element(&text, "NextContinuationToken").filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(found);
            }
        }
        bail!("the bucket holds more than {MAX_PAGES},000 objects below its prefix")
    }

    /// Writes an object, or only its first bytes, into `to`.
    ///
    /// # Errors
    /// In words for the user.
    pub async fn get(&self, name: &str, first: Option<u64>, to: &mut impl Write) -> Result<()> {
        let ask = Ask {
            method: Method::GET,
            name: Some(name),
            query: &[],
            range: first.map(|bytes| (0, bytes - 1)),
        };
        let mut body = self.send(ask, None).await?.into_body();
        while let Some(frame) = timeout(STALL, body.frame())
            .await
            .context("the transfer stalls")?
        {
            if let Ok(data) = frame?.into_data() {
                to.write_all(&data)?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// In words for the user.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let ask = Ask {
            method: Method::DELETE,
            name: Some(name),
            query: &[],
            range: None,
        };
        text(self.send(ask, None).await?).await.map(drop)
    }

    /// The answer, if it is a good one. A body comes with its length and digest.
    async fn send(&self, ask: Ask<'_>, body: Option<upload::Sized>) -> Result<Response<Incoming>> {
        let key = ask
            .name
            .map_or(String::new(), |name| format!("{}{name}", self.prefix));
        let path = if self.path_style {
            format!("/{}/{key}", self.bucket)
        } else {
            format!("/{key}")
        };
        let (body, length, digest) = body.unwrap_or_else(|| {
            let empty = Empty::new().map_err(|never| match never {});
            (empty.boxed_unsync(), 0, hex(&Sha256::digest(b"")))
        });
        let signed = Signed {
            method: ask.method.as_str(),
            host: &self.authority,
            path: &path,
            query: ask.query,
            payload: &digest,
        };
        let headers = sign::headers(&signed, &self.credentials, &self.region, jiff::Timestamp::now());
        let query = encode_query(ask.query);
        let separator = if query.is_empty() { "" } else { "?" };
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(format!("{}{separator}{query}", encode_path(&path)))
            .header("host", &self.authority)
            .header("content-length", length);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some((first, last)) = ask.range {
            request = request.header("range", format!("bytes={first}-{last}"));
        }
        let sent = self.exchange(request.body(body)?).await;
        let answer = sent.with_context(|| format!("{} {} at {}", ask.method, path, self.authority))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let code = answer.status().as_u16();
        let said = text(answer).await.unwrap_or_default();
        let field = |name: &str| element(&said, name).unwrap_or_default();
        Err(anyhow!(
            "{} {path} at {}: {code} {} {}",
            ask.method,
            self.authority,
            field("Code"),
            field("Message")
        ))
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Incoming>> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let tcp = timeout(STALL, connect).await.context("no connection in time")??;
        tcp.set_nodelay(true)?;
        if !self.tls {
            return respond(tcp, request).await;
        }
        let tls = match &self.authorities {
            Some(pem) => corten_apiserver::bundle_trust(pem),
            None => corten_apiserver::host_trust(),
        };
        let tls = tls.map_err(|why| anyhow!(why))?;
        let name = ServerName::try_from(self.host.clone())?;
        let shaken = tokio_rustls::TlsConnector::from(Arc::clone(&tls)).connect(name, tcp);
        respond(
            timeout(STALL, shaken).await.context("no handshake in time")??,
            request,
        )
        .await
    }
}

async fn respond(
    wire: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
) -> Result<Response<Incoming>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(wire)).await?;
    // It ends with the answer's last byte, or with whoever stops reading it.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

async fn text(answer: Response<Incoming>) -> Result<String> {
    let limited = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER);
    let collected = timeout(STALL, limited.collect())
        .await
        .context("the answer stalls")?;
    let bytes = collected.map_err(|error| anyhow!(error))?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What stands between each `<name>` and `</name>`. S3's answers nest no element in one of its own name.
fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (inside, left) = after.split_once(&close)?;
        rest = left;
        Some(inside)
    })
}

/// The text of the first element of that name.
fn element(text: &str, name: &str) -> Option<String> {
    let found = elements(text, name).next()?;
    let plain = found
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'");
    Some(plain.replace("&amp;", "&"))
}
