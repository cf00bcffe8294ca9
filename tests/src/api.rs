//! The API over HTTPS with the administrator's certificate, for requests that kubectl would not send.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::Cluster;

const LIMIT: Duration = Duration::from_secs(60);
/// Of a body, written before a look whether the server has answered already.
const CHUNK: usize = 64 * 1024;

/// Where the server is and who we are.
#[derive(Clone)]
pub struct Api {
    host: String,
    port: u16,
    tls: Arc<ClientConfig>,
}

/// One HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

impl Api {
    /// As the cluster's administrator.
    pub fn admin(cluster: &Cluster) -> Api {
        Api::with(&read_kubeconfig(cluster))
    }

    /// As whom a kubeconfig that `corten server` wrote stands for.
    ///
    /// # Errors
    /// It is not there, or not whole yet.
    pub fn of_kubeconfig(path: &Path) -> std::io::Result<Api> {
        Ok(Api::with(&serde_json::from_slice(&std::fs::read(path)?)?))
    }

    fn with(config: &Value) -> Api {
        let user = &config["users"][0]["user"];
        Api::new(
            config,
            Some((
                pem(&user["client-certificate-data"]),
                pem(&user["client-key-data"]),
            )),
        )
    }

    /// Without any certificate.
    pub fn anonymous(cluster: &Cluster) -> Api {
        Api::new(&read_kubeconfig(cluster), None)
    }

    fn new(config: &Value, identity: Option<(Vec<u8>, Vec<u8>)>) -> Api {
        let server = &config["clusters"][0]["cluster"];
        let url = server["server"].as_str().expect("the kubeconfig names a server");
        let (host, port) = url
            .strip_prefix("https://")
            .and_then(|address| address.trim_end_matches('/').rsplit_once(':'))
            .unwrap_or_else(|| panic!("{url} is no https://host:port"));
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&pem(&server["certificate-authority-data"])) {
            roots.add(certificate).expect("the CA is a certificate");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots);
        let tls = match identity {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_slice(&key).expect("a private key");
                builder
                    .with_client_auth_cert(certificates(&certificate), key)
                    .expect("certificate and key agree")
            }
            None => builder.with_no_client_auth(),
        };
        Api {
            host: host.to_owned(),
            port: port.parse().expect("a port"),
            tls: Arc::new(tls),
        }
    }

    /// A connection that can carry one request after the other.
    ///
    /// # Errors
    /// The server is not there.
    pub fn connect(&self) -> std::io::Result<Connection> {
        let socket = TcpStream::connect((self.host.as_str(), self.port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(LIMIT))?;
        let name = ServerName::try_from(self.host.clone()).expect("an address or name");
        let session = ClientConnection::new(Arc::clone(&self.tls), name).map_err(std::io::Error::other)?;
        let stream = BufReader::new(StreamOwned::new(session, socket));
        Ok(Connection {
            stream,
            host: self.host.clone(),
        })
    }

    /// One request over a connection of its own.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.connect()
            .and_then(|mut connection| connection.send(method, path, content_type, body))
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "application/json", b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str, object: &Value) -> Answer {
        self.send("POST", path, "application/json", object.to_string().as_bytes())
    }
}

pub struct Connection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    host: String,
}

impl Connection {
    /// # Errors
    /// The connection broke before the whole answer was there: the request may or may not have been carried out.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        for chunk in body.chunks(CHUNK) {
            // A server may answer, and stop reading, before it has seen all of a body that is too large.
            if answer_is_waiting(stream)? {
                break;
            }
            stream.write_all(chunk)?;
        }
        stream.flush()?;
        self.read_answer()
    }

    fn read_answer(&mut self) -> std::io::Result<Answer> {
        let broken = |text: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, text.to_owned());
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let code = line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| broken(&line))?;
        let (mut length, mut chunked) = (None, false);
        loop {
            let mut header = String::new();
            self.stream.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse::<usize>().ok();
            }
            chunked |= header
                .strip_prefix("transfer-encoding:")
                .is_some_and(|value| value.contains("chunked"));
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                let mut size = String::new();
                self.stream.read_line(&mut size)?;
                let size = usize::from_str_radix(size.trim(), 16).map_err(|_| broken("chunk size"))?;
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..])?;
                let mut end = String::new();
                self.stream.read_line(&mut end)?;
                if size == 0 {
                    break;
                }
            }
        } else {
            body.resize(length.unwrap_or(0), 0);
            self.stream.read_exact(&mut body)?;
        }
        Ok(Answer { code, body })
    }
}

/// Takes in what has arrived, without waiting for more.
fn answer_is_waiting(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> std::io::Result<bool> {
    stream.sock.set_nonblocking(true)?;
    let arrived = stream.conn.read_tls(&mut stream.sock);
    stream.sock.set_nonblocking(false)?;
    match arrived {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
        Err(error) => return Err(error),
    }
    let state = stream.conn.process_new_packets().map_err(std::io::Error::other)?;
    Ok(state.plaintext_bytes_to_read() > 0)
}

fn read_kubeconfig(cluster: &Cluster) -> Value {
    let output = cluster.kubectl().ok("config view --raw -o json");
    serde_json::from_str(&output).expect("kubectl prints JSON")
}

/// Inline data of a kubeconfig.
fn pem(data: &Value) -> Vec<u8> {
    STANDARD
        .decode(data.as_str().expect("inline data"))
        .expect("base64")
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .expect("certificates")
}

/// True when only the owner may read the file.
pub fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o777 == 0o600)
}
