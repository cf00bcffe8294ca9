//! HTTP/2 over TLS to one of several servers, to the next one when it is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::Rng;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::time::timeout;

use crate::Cluster;

pub(super) const PORT: u16 = 6443;
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// A request without an answer for so long is given up, its outcome unknown.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// Between two rounds through servers none of which is there.
const ROUND_PAUSE: Duration = Duration::from_millis(20);
/// A connection on which nothing comes back is given up after this and as much again.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// All servers of a cluster, and the administrator's credentials.
#[derive(Clone)]
pub struct Servers {
    pub names: Vec<String>,
    pub addresses: Vec<String>,
    /// Whether a witness votes with them.
    witness: bool,
    tls: Arc<rustls::ClientConfig>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failed {
    /// The request may have been carried out.
    Unknown(String),
    /// No server could be reached before the deadline: nothing was sent.
    Nobody,
}

impl Servers {
    /// # Errors
    /// The kubeconfig is not as `corten` writes it.
    pub fn of(cluster: &Cluster) -> Result<Servers> {
        let config: Value = serde_json::from_slice(&std::fs::read(cluster.kubeconfig())?)?;
        let field = |pointer: &str| -> Result<Vec<u8>> {
            let text = config.pointer(pointer).and_then(Value::as_str);
            let text = text.with_context(|| format!("the kubeconfig has {pointer}"))?;
            Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
        };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in
            CertificateDer::pem_slice_iter(&field("/clusters/0/cluster/certificate-authority-data")?)
        {
            roots.add(certificate?)?;
        }
        let chain = field("/users/0/user/client-certificate-data")?;
        let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&field("/users/0/user/client-key-data")?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let servers = cluster
            .hosts
            .iter()
            .filter(|(name, _)| name.starts_with("server-"));
        Ok(Servers {
            names: servers.clone().map(|(name, _)| name.clone()).collect(),
            addresses: servers.map(|(_, ip)| ip.clone()).collect(),
            witness: cluster.hosts.iter().any(|(name, _)| name == "witness"),
            tls: Arc::new(tls),
        })
    }

    /// The servers without one of them.
    #[must_use]
    pub fn without(&self, name: &str) -> Servers {
        let mut rest = self.clone();
        if let Some(at) = rest.names.iter().position(|own| own == name) {
            rest.names.remove(at);
            rest.addresses.remove(at);
        }
        rest
    }

    /// A client that begins with server number `first`.
    #[must_use]
    pub fn client(&self, first: usize) -> Client {
        Client {
            servers: self.clone(),
            current: first % self.addresses.len(),
            connection: None,
        }
    }

    /// # Errors
    /// The server is not there.
    pub async fn connect(&self, number: usize) -> Result<SendRequest<Full<Bytes>>> {
        let address = &self.addresses[number];
        let open = async {
            let tcp = tokio::net::TcpStream::connect((address.as_str(), PORT)).await?;
            tcp.set_nodelay(true)?;
            let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
            let tls = connector
                .connect(ServerName::try_from(address.clone())?, tcp)
                .await?;
            let (sender, connection) = Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .handshake(TokioIo::new(tls))
                .await?;
            tokio::spawn(connection);
            anyhow::Ok(sender)
        };
        timeout(CONNECT_LIMIT, open).await?
    }

    /// Name of the server that leads, as one that answers says.
    pub async fn leader(&self) -> Option<String> {
        for number in 0..self.addresses.len() {
            let mut client = self.client(number);
            let deadline = Instant::now() + CONNECT_LIMIT;
            let Ok((200, body)) = client.send_until("GET", "/corten/v1/members", "", deadline).await else {
                continue;
            };
            let list: Value = serde_json::from_slice(&body).ok()?;
            let members = list["members"].as_array()?;
            let leader = members.iter().find(|member| member["role"] == "leader")?;
            if leader["health"] == "healthy" {
                return leader["name"].as_str().map(str::to_owned);
            }
        }
        None
    }

    /// A server that has its vote back may still be about to serve.
    async fn all_answer(&self) -> bool {
        for number in 0..self.addresses.len() {
            if self.connect(number).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Waits until `count` servers, and the witness where there is one, are healthy, vote and agree on a leader; its name.
    ///
    /// # Errors
    /// They are not within `limit`.
    pub async fn healthy(&self, count: usize, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        let voters = count + usize::from(self.witness);
        let mut last = String::new();
        while Instant::now() < deadline {
            let answer = self
                .client(0)
                .send_until("GET", "/corten/v1/members", "", deadline)
                .await;
            if let Ok((200, body)) = answer {
                let list: Value = serde_json::from_slice(&body)?;
                let members = list["members"].as_array().map(Vec::as_slice).unwrap_or_default();
                let well = members.iter().filter(|member| {
                    member["health"] == "healthy"
                        && matches!(member["role"].as_str(), Some("leader" | "voter" | "witness"))
                        && member["about"]["leader"] == list["leader"]
                });
                let leader = members.iter().find(|member| member["role"] == "leader");
                if well.count() == voters
                    && let Some(name) = leader.and_then(|leader| leader["name"].as_str())
                    && self.all_answer().await
                {
                    return Ok(name.to_owned());
                }
                last = list.to_string();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("{count} servers are not healthy within {limit:?}: {last}")
    }
}

/// One request after the other.
pub struct Client {
    servers: Servers,
    current: usize,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Code and body of the answer.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn send(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, Bytes), Failed> {
        self.send_until(method, path, body, Instant::now() + REQUEST_LIMIT)
            .await
    }

    /// # Errors
    /// See [`Failed`].
    pub async fn send_until(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        deadline: Instant,
    ) -> Result<(u16, Bytes), Failed> {
        let mut connection = self.connected(deadline).await?;
        let request = self.request(method, path, body);
        let exchange = async {
            let answer = connection.send_request(request).await?;
            let code = answer.status().as_u16();
            let body = answer.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>((code, body))
        };
        match timeout(deadline.saturating_duration_since(Instant::now()), exchange).await {
            Ok(Ok(answer)) => {
                self.connection = Some(connection);
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.elsewhere();
                Err(Failed::Unknown(error.to_string()))
            }
            Err(_) => {
                self.elsewhere();
                Err(Failed::Unknown("no answer in time".into()))
            }
        }
    }

    /// The answer's head; its body comes piece by piece.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn open(&mut self, path: &str, deadline: Instant) -> Result<http::Response<Incoming>, Failed> {
        let mut connection = self.connected(deadline).await?;
        let request = self.request("GET", path, "");
        match timeout(
            deadline.saturating_duration_since(Instant::now()),
            connection.send_request(request),
        )
        .await
        {
            Ok(Ok(answer)) => {
                self.connection = Some(connection);
                Ok(answer)
            }
            failed => {
                self.elsewhere();
                Err(Failed::Unknown(format!("{:?}", failed.map(|sent| sent.err()))))
            }
        }
    }

    /// Any other server. Were it the next one, the clients of all would in time be at one, and find out together that it is
    /// gone.
    fn elsewhere(&mut self) {
        let others = self.servers.addresses.len().saturating_sub(1).max(1);
        self.current += 1 + rand::rng().random_range(0..others);
    }

    /// Another server from now on.
    pub fn move_on(&mut self) {
        self.connection = None;
        self.elsewhere();
    }

    fn request(&self, method: &str, path: &str, body: &str) -> http::Request<Full<Bytes>> {
        let address = &self.servers.addresses[self.current % self.servers.addresses.len()];
        http::Request::builder()
            .method(method)
            .uri(format!("https://{address}{path}"))
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .expect("a path of our own")
    }

    async fn connected(&mut self, deadline: Instant) -> Result<SendRequest<Full<Bytes>>, Failed> {
        if let Some(mut held) = self.connection.take()
            && held.ready().await.is_ok()
        {
            return Ok(held);
        }
        loop {
            for _ in 0..self.servers.addresses.len() {
                let number = self.current % self.servers.addresses.len();
                if let Ok(opened) = self.servers.connect(number).await {
                    return Ok(opened);
                }
                self.current += 1;
            }
            if Instant::now() >= deadline {
                return Err(Failed::Nobody);
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }
}
