//! The server under attack, and connections to it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cluster::binary;

const START_LIMIT: Duration = Duration::from_secs(30);

/// A real `corten server` on the loopback address, with a folder of its own. Both go when it is dropped, and the process goes
/// with the one that measures it, however that ends.
pub struct Server {
    child: Child,
    directory: tempfile::TempDir,
    target: Arc<Target>,
}

/// Where the server is, and who may ask it. Clients that never end hold this, not the server.
pub struct Target {
    port: u16,
    admin: Arc<rustls::ClientConfig>,
    node: Arc<rustls::ClientConfig>,
    nobody: Arc<rustls::ClientConfig>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may be dead already
        let _ = self.child.wait();
    }
}

impl std::ops::Deref for Server {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.target
    }
}

/// Has the kernel kill the process when the thread that started it ends.
fn end_with_us(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let enter = || {
        // SAFETY: one system call without pointers, which is allowed between fork and exec.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: `enter` allocates nothing and takes no lock.
    unsafe { command.pre_exec(enter) };
}

impl Server {
    pub async fn start() -> Result<Server> {
        let directory = tempfile::Builder::new()
            .prefix("corten-hostile-")
            .tempdir_in("/var/tmp")?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = std::fs::File::create(directory.path().join("server.log"))?;
        let data = directory.path().join("data");
        let mut command = Command::new(binary());
        end_with_us(&mut command);
        let child = command
            .args([
                "server",
                "--bind-address",
                "127.0.0.1",
                "--peer-port",
                "0",
                "--port",
            ])
            .arg(port.to_string())
            .arg("--data-dir")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let kubeconfig = data.join("admin.kubeconfig");
        let mut started = Started(Some(child));
        let start = Instant::now();
        while !kubeconfig.exists() || TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if start.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(directory.path().join("server.log")).unwrap_or_default();
                bail!("the server does not start: {log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let node_kubeconfig = directory.path().join("node.kubeconfig");
        let made = Command::new(binary())
            .args([
                "node-kubeconfig",
                "--node-name",
                "n1",
                "--server",
                "https://127.0.0.1",
                "--data-dir",
            ])
            .args([&data, Path::new("--out"), &node_kubeconfig])
            .status()?;
        anyhow::ensure!(made.success(), "no kubeconfig for the node");
        let target = Target {
            admin: tls(&kubeconfig, true)?,
            node: tls(&node_kubeconfig, true)?,
            nobody: tls(&kubeconfig, false)?,
            port,
        };
        let child = started.0.take().context("a server")?;
        Ok(Server {
            child,
            directory,
            target: Arc::new(target),
        })
    }

    pub fn target(&self) -> Arc<Target> {
        self.target.clone()
    }

    /// Bytes.
    pub fn rss(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let pages: u64 = text
            .split(' ')
            .nth(1)
            .context("statm has a second field")?
            .parse()?;
        Ok(pages * 4096)
    }

    pub fn lives(&self) -> bool {
        Path::new(&format!("/proc/{}/exe", self.child.id()))
            .read_link()
            .is_ok()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default()
    }
}

/// A process that ends here unless the start ends well.
struct Started(Option<Child>);

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill(); // it may be dead already
            let _ = child.wait();
        }
    }
}

impl Target {
    pub fn admin(&self) -> &Arc<rustls::ClientConfig> {
        &self.admin
    }

    pub fn node(&self) -> &Arc<rustls::ClientConfig> {
        &self.node
    }

    /// Without a certificate.
    pub fn nobody(&self) -> &Arc<rustls::ClientConfig> {
        &self.nobody
    }

    pub async fn tcp(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// `protocol`: `h2` or `http/1.1`.
    pub async fn tls(
        &self,
        config: &Arc<rustls::ClientConfig>,
        protocol: &str,
    ) -> Result<TlsStream<TcpStream>> {
        let mut config = rustls::ClientConfig::clone(config);
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from("127.0.0.1")?;
        Ok(TlsConnector::from(Arc::new(config))
            .connect(name, self.tcp().await?)
            .await?)
    }

    pub async fn connect(&self, config: &Arc<rustls::ClientConfig>) -> Result<Session> {
        let tls = self.tls(config, "h2").await?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(Session { sender })
    }
}

/// One HTTP/2 connection.
#[derive(Clone)]
pub struct Session {
    pub sender: SendRequest<Full<Bytes>>,
}

impl Session {
    /// The answer's code and its JSON.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &Value,
        content_type: Option<&str>,
    ) -> Result<(u16, Value)> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = request(method, path, None)
            .header("content-type", content_type.unwrap_or("application/json"))
            .body(Full::from(body))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect().await?.to_bytes();
        Ok((code, serde_json::from_slice(&bytes).unwrap_or_default()))
    }
}

pub fn request(method: &str, path: &str, token: Option<&str>) -> http::request::Builder {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("https://127.0.0.1{path}"));
    match token {
        Some(token) => request.header("authorization", format!("Bearer {token}")),
        None => request,
    }
}

fn tls(kubeconfig: &PathBuf, with_certificate: bool) -> Result<Arc<rustls::ClientConfig>> {
    let config: Value = serde_json::from_slice(&std::fs::read(kubeconfig)?)?;
    let pem = |value: &Value| Ok::<_, anyhow::Error>(STANDARD.decode(value.as_str().context("base64")?)?);
    let mut roots = rustls::RootCertStore::empty();
    let ca = pem(&config["clusters"][0]["cluster"]["certificate-authority-data"])?;
    for certificate in CertificateDer::pem_slice_iter(&ca) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let user = &config["users"][0]["user"];
    Ok(Arc::new(if with_certificate {
        let chain = CertificateDer::pem_slice_iter(&pem(&user["client-certificate-data"])?)
            .collect::<Result<_, _>>()?;
        builder.with_client_auth_cert(
            chain,
            PrivateKeyDer::from_pem_slice(&pem(&user["client-key-data"])?)?,
        )?
    } else {
        builder.with_no_client_auth()
    }))
}
