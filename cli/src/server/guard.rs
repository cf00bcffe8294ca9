//! The flags that say whom a server lets in, and how much of them: TLS, anonymous requests, requests at once.

use anyhow::Result;
use corten_apiserver::pki::TlsProfile;

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// A set of stricter defaults than Kubernetes'. hardened: TLS 1.3 only, no anonymous requests, and a chained audit log
    /// in the data folder without which nothing is served
    #[arg(long, value_parser = ["kubernetes", "hardened"], default_value = "kubernetes")]
    profile: String,
    /// The oldest TLS that is spoken: VersionTLS12 or VersionTLS13
    #[arg(long, default_value = "")]
    tls_min_version: String,
    /// Cipher suites of TLS 1.2 that are offered, by commas [default: all with forward secrecy]
    #[arg(long, value_delimiter = ',')]
    tls_cipher_suites: Vec<String>,
    /// Requests without credentials are those of system:anonymous; else they are refused [default: true; hardened: false]
    #[arg(long)]
    anonymous_auth: Option<bool>,
    /// Seats for requests that read; together with those for requests that write they are divided among the priority levels
    #[arg(long, default_value_t = 400)]
    max_requests_inflight: u32,
    /// Seats for requests that write
    #[arg(long, default_value_t = 200)]
    max_mutating_requests_inflight: u32,
}

impl Args {
    pub fn is_hardened(&self) -> bool {
        self.profile == "hardened"
    }

    /// # Errors
    /// Unknown versions or suites.
    pub fn tls(&self) -> Result<TlsProfile> {
        if self.is_hardened() && self.tls_min_version.is_empty() {
            return Ok(TlsProfile::strict());
        }
        TlsProfile::parse(&self.tls_min_version, &self.tls_cipher_suites).map_err(anyhow::Error::msg)
    }

    pub fn anonymous(&self) -> bool {
        self.anonymous_auth.unwrap_or(!self.is_hardened())
    }

    pub fn seats(&self) -> u32 {
        self.max_requests_inflight
            .saturating_add(self.max_mutating_requests_inflight)
            .max(1)
    }
}
