//! Connections to others: a URL's host, resolved once and checked, or a Service's Pod through its node's tunnel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::Inner;
use crate::proxy;
use crate::streaming::forward;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Who is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    Host {
        name: String,
        port: u16,
    },
    Service {
        namespace: String,
        name: String,
        port: u16,
    },
}

impl Place {
    /// `host:port` as Go names it in errors.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Place::Host { name, port } if name.contains(':') => format!("[{name}]:{port}"),
            Place::Host { name, port } => format!("{name}:{port}"),
            Place::Service {
                namespace,
                name,
                port,
            } => format!("{name}.{namespace}.svc:{port}"),
        }
    }

    /// The name the other side's certificate has to carry.
    #[must_use]
    pub fn server_name(&self) -> String {
        match self {
            Place::Host { name, .. } => name.clone(),
            Place::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }
}

pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Bytes to and from the place, and why it cannot be reached if that is told later.
pub type Dialled = (Box<dyn Wire>, forward::Refused);

/// # Errors
/// Why the place cannot be reached, in the words Go's dialler would use where there are any.
pub async fn dial(inner: &Inner, place: &Place) -> Result<Dialled, String> {
    match place {
        Place::Host { name, port } => {
            let stream = host(name, *port).await?;
            Ok((Box::new(stream), forward::Refused::default()))
        }
        Place::Service {
            namespace,
            name,
            port,
        } => {
            if let Some(address) = inner.config.service_addresses.get(&format!("{namespace}/{name}")) {
                let stream = TcpStream::connect(address).await;
                let refused = |error| format!("dial tcp {address}: connect: {}", in_go_words(&error));
                return Ok((Box::new(stream.map_err(refused)?), forward::Refused::default()));
            }
            let location = proxy::locate(inner, namespace, name, *port).await?;
            let io = forward::open(&inner.tunnels, &location.port)
                .await
                .map_err(|status| status.message)?;
            let refused = io.refused();
            Ok((Box::new(io), refused))
        }
    }
}

async fn host(name: &str, port: u16) -> Result<TcpStream, String> {
    let addresses: Vec<SocketAddr> = match name.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => tokio::net::lookup_host((name, port))
            .await
            .map_err(|_| format!("dial tcp: lookup {name}: no such host"))?
            .take(MAX_ADDRESSES)
            .collect(),
    };
    let mut why = format!("dial tcp: lookup {name}: no such host");
    for address in addresses {
        if let Some(refusal) = refused(address.ip()) {
            why = format!("dial tcp {address}: {refusal}");
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(|error| error.to_string())?;
                return Ok(stream);
            }
            Err(error) => why = format!("dial tcp {address}: connect: {}", in_go_words(&error)),
        }
    }
    Err(why)
}

fn in_go_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::HostUnreachable => "no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        io::ErrorKind::TimedOut => "connection timed out".into(),
        _ => error.to_string(),
    }
}

/// Why nobody calls this address on an object's behalf: there, clouds hand out the host's own credentials.
fn refused(address: IpAddr) -> Option<&'static str> {
    let address = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    /// The metadata service of Alibaba Cloud, outside the link-local range.
    const ALIBABA_METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    let not_allowed = match address {
        IpAddr::V4(v4) => {
            v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4 == ALIBABA_METADATA
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || v6.segments()[..2] == [0xfd00, 0xec2]
        }
    };
    not_allowed.then_some("address not allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_addresses_are_never_called() {
        for (address, allowed) in [
            ("127.0.0.1", true),
            ("10.0.0.1", true),
            ("169.254.169.254", false),
            ("::ffff:169.254.169.254", false),
            ("100.100.100.200", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("fd00::1", true),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(refused(address).is_none(), allowed, "{address}");
        }
    }
}
