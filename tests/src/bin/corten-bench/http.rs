//! One HTTP/2 client over TLS for both sides of a comparison, and the static peer: the same stack (hyper on rustls) with
//! the same settings, a body of the same size, nothing else.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// One HTTP/2 connection. Requests of one handle run one after the other, those of its clones at once.
#[derive(Clone)]
pub struct Connection(SendRequest<Full<Bytes>>);

/// What a client needs of a kubeconfig.
#[derive(Clone)]
pub struct Endpoint {
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
}

impl Endpoint {
    pub fn from_kubeconfig(path: &Path, port: u16) -> Result<Endpoint> {
        // `corten` writes kubeconfigs as JSON, which is YAML too.
        let kubeconfig: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let field = |pointer: &str| -> Result<Vec<u8>> {
            let value = kubeconfig.pointer(pointer).and_then(|value| value.as_str());
            let text = value.with_context(|| format!("the kubeconfig has {pointer}"))?;
            Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
        };
        let ca = field("/clusters/0/cluster/certificate-authority-data")?;
        let certificate = field("/users/0/user/client-certificate-data")?;
        let key = field("/users/0/user/client-key-data")?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&ca) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>()?;
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&key)?)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Endpoint {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            config: Arc::new(config),
        })
    }

    /// The same client against another port (the static peer uses the server's own certificate).
    pub fn at(&self, port: u16) -> Endpoint {
        Endpoint {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            config: self.config.clone(),
        }
    }

    pub async fn connect(&self) -> Result<Connection> {
        let tcp = tokio::net::TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let connector = tokio_rustls::TlsConnector::from(self.config.clone());
        let name = ServerName::try_from("127.0.0.1")?;
        let tls = connector.connect(name, tcp).await?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(tls))
            .await?;
        tokio::spawn(connection);
        Ok(Connection(sender))
    }

    pub async fn connect_many(&self, count: usize) -> Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(self.connect().await?);
        }
        Ok(connections)
    }
}

impl Connection {
    /// The head of the answer has come; its body follows.
    pub async fn open(
        &mut self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<::http::Response<Incoming>> {
        self.0.ready().await?;
        let request = ::http::Request::builder()
            .method(method)
            .uri(format!("https://127.0.0.1{path}"))
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        Ok(self.0.send_request(request).await?)
    }

    /// The answer's body in full; anything but 2xx is an error.
    pub async fn request(&mut self, method: &str, path: &str, body: Bytes) -> Result<Bytes> {
        let answer = self.open(method, path, body).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        anyhow::ensure!(
            status.is_success(),
            "{method} {path}: {status} {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }

    /// Reads the answer's body and keeps nothing of it but its length.
    pub async fn drain(&mut self, path: &str) -> Result<usize> {
        let answer = self.open("GET", path, Bytes::new()).await?;
        anyhow::ensure!(answer.status().is_success(), "GET {path}: {}", answer.status());
        let mut body = answer.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(bytes)
    }
}

/// `static-server CERTIFICATE KEY`: answers `/SIZE` with that many bytes. Prints its port. The HTTP/2 settings are those of
/// `apiserver/src/serve.rs`.
pub async fn serve_static(arguments: &[String]) -> Result<()> {
    let (certificate, key) = (
        arguments.first().context("certificate")?,
        arguments.get(1).context("key")?,
    );
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let largest = Bytes::from(vec![b'x'; 64 << 20]);
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let (acceptor, largest) = (acceptor.clone(), largest.clone());
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request: ::http::Request<Incoming>| {
                let size: usize = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
                let body = Full::new(largest.slice(..size.min(largest.len())));
                async move { Ok::<_, std::convert::Infallible>(::http::Response::new(body)) }
            });
            // An error is a client that went away.
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(256 * 1024)
                .initial_connection_window_size(1024 * 1024)
                .max_send_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(tls), service)
                .await;
        });
    }
}
