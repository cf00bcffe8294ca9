//! The servers of a cluster as one node sees them: which there are, and in what order it tries them. Pure, but for the
//! file that keeps the list over a restart.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use sha2::{Digest, Sha256};

/// Most servers that are kept; clusters have 1, 3 or 5.
pub const MAX_SERVERS: usize = 16;
const DEFAULT_PORT: u16 = 6443;

/// Where one server listens. Its certificate is valid for the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Server {
    /// From `https://HOST[:PORT]`.
    pub fn from_url(url: &str) -> Option<Server> {
        let uri: http::Uri = url.parse().ok()?;
        let host = uri.host()?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        (uri.scheme_str() == Some("https") && !host.is_empty()).then_some(Server { host, port })
    }
}

impl FromStr for Server {
    type Err = ();

    fn from_str(text: &str) -> Result<Server, ()> {
        Server::from_url(&format!("https://{text}")).ok_or(())
    }
}

/// The order in which the node `name` tries the servers. Each node has its own, so that all servers have their share, and
/// one that comes or goes changes nothing for who does not use it (rendezvous hashing).
#[must_use]
pub fn order(mut servers: Vec<Server>, name: &str) -> Vec<Server> {
    servers.sort();
    servers.dedup();
    servers.sort_by_cached_key(|server| -> [u8; 32] {
        Sha256::new()
            .chain_update(name)
            .chain_update([0])
            .chain_update(server.to_string())
            .finalize()
            .into()
    });
    servers.truncate(MAX_SERVERS);
    servers
}

/// The servers behind the Service `kubernetes`. Empty when the slices say nothing: then the old list is the better one.
#[must_use]
pub fn of_slices<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Vec<Server> {
    let mut servers = Vec::new();
    for slice in slices {
        let port = slice.ports.iter().flatten().find_map(|port| port.port);
        let port = port
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(DEFAULT_PORT);
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready);
            if ready != Some(false) {
                let hosts = endpoint.addresses.iter().cloned();
                servers.extend(hosts.map(|host| Server { host, port }));
            }
        }
    }
    servers
}

/// The list in a file, one server a line; empty if there is none.
///
/// # Errors
/// A file that cannot be read.
pub fn load(path: &Path) -> io::Result<Vec<Server>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// # Errors
/// What the file system reports.
pub fn store(path: &Path, servers: &[Server]) -> io::Result<()> {
    let text: String = servers.iter().map(|server| format!("{server}\n")).collect();
    crate::file::replace(path, text.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn server(host: &str) -> Server {
        Server {
            host: host.into(),
            port: 6443,
        }
    }

    #[test]
    fn urls_and_addresses() {
        for (text, host, port) in [
            ("192.0.2.1:6443", "192.0.2.1", 6443),
            ("[2001:db8::1]:6443", "2001:db8::1", 6443),
            ("api.example", "api.example", 443),
        ] {
            let got: Server = text.parse().expect(text);
            assert_eq!((got.host.as_str(), got.port), (host, port));
            assert_eq!(got.to_string().parse(), Ok(got));
        }
        assert_eq!(Server::from_url("http://192.0.2.1"), None);
        assert!("".parse::<Server>().is_err());
    }

    #[test]
    fn each_server_has_its_share_of_nodes_and_keeps_it() {
        let three: Vec<Server> = ["a", "b", "c"].map(server).into();
        let first =
            |servers: &[Server], node: usize| order(servers.to_vec(), &format!("node-{node}"))[0].clone();
        for one in &three {
            let share = (0..300).filter(|node| first(&three, *node) == *one).count();
            assert!((60..140).contains(&share), "{one}: {share} of 300");
        }
        let two = &three[..2];
        let moved = (0..300)
            .filter(|node| first(&three, *node) != three[2] && first(&three, *node) != first(two, *node));
        assert_eq!(moved.count(), 0, "only the nodes of the one that left move");
    }

    #[test]
    fn servers_come_from_the_slices_of_their_service() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4", "ports": [{"port": 7443}],
            "endpoints": [{"addresses": ["192.0.2.1"]}, {"addresses": ["192.0.2.2"], "conditions": {"ready": false}}],
        }))
        .expect("a slice");
        let want = vec![Server {
            host: "192.0.2.1".into(),
            port: 7443,
        }];
        assert_eq!(of_slices([&slice]), want);
    }
}
