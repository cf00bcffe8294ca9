//! The server's TLS as it is now: certificates and authorities change while connections go on.

use std::sync::Arc;

use parking_lot::RwLock;

/// What new connections are accepted with. Clones are the same one.
#[derive(Clone)]
pub struct ServerTls(Arc<RwLock<Arc<rustls::ServerConfig>>>);

impl ServerTls {
    #[must_use]
    pub fn new(config: Arc<rustls::ServerConfig>) -> ServerTls {
        ServerTls(Arc::new(RwLock::new(config)))
    }

    #[must_use]
    pub fn current(&self) -> Arc<rustls::ServerConfig> {
        self.0.read().clone()
    }

    /// For connections from now on; open ones stay as they are.
    pub fn set(&self, config: Arc<rustls::ServerConfig>) {
        *self.0.write() = config;
    }
}

impl From<Arc<rustls::ServerConfig>> for ServerTls {
    fn from(config: Arc<rustls::ServerConfig>) -> ServerTls {
        ServerTls::new(config)
    }
}
