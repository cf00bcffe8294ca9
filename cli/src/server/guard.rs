//! The flags that say whom a server lets in, and how much of them: TLS, anonymous requests, requests at once.

use std::time::Duration;

use anyhow::Result;
use corten_apiserver::PodSecurity;
use corten_apiserver::pki::TlsProfile;
use corten_apiserver::strict::Strict;
use ipnet::Ipv4Net;

const EXTERNAL_IPS: &str = "DenyServiceExternalIPs";

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// A set of stricter defaults than Kubernetes'. hardened: TLS 1.3 only, no anonymous requests, the baseline Pod Security
    /// Standard where a namespace names none, DenyServiceExternalIPs, certificates that live for a day, tokens that live for an
    /// hour, no token for Pods of the default account that do not ask for one, webhooks that are waited for two seconds at most,
    /// not asked about the system's namespaces and not told what is in Secrets, endpoints that are Pods, and a chained audit log in the data folder without which nothing is served
    #[arg(long, value_parser = ["kubernetes", "hardened"], default_value = "kubernetes")]
    profile: String,
    /// The oldest TLS that is spoken: VersionTLS12 or VersionTLS13
    #[arg(long, default_value = "")]
    tls_min_version: String,
    /// Cipher suites of TLS 1.2 that are offered, by commas [default: all with forward secrecy]
    #[arg(long, value_delimiter = ',')]
    tls_cipher_suites: Vec<String>,
    /// Plug-ins of admission that are off by default
    #[arg(long, value_delimiter = ',', value_parser = [EXTERNAL_IPS])]
    enable_admission_plugins: Vec<String>,
    /// Requests without credentials are those of system:anonymous; else they are refused [default: true; hardened: false]
    #[arg(long)]
    anonymous_auth: Option<bool>,
    /// Tokens live this long at most; who asks for more gets these, and a warning [default: no bound; hardened: 1h]
    #[arg(long, value_parser = crate::duration::parse)]
    service_account_max_token_expiration: Option<Duration>,
    /// Pods of the account `default` get a token unless they or the account decline one; else only where they ask for it
    /// [default: true; hardened: false]
    #[arg(long)]
    automount_default_account: Option<bool>,
    /// Webhooks are waited for this long at most, and not asked about kube-system, kube-public and kube-node-lease
    /// [default: as they say themselves; hardened: 2s]
    #[arg(long, value_parser = crate::duration::parse)]
    webhook_limit: Option<Duration>,
    /// Webhooks are asked about Secrets without what is in them, unless their configuration has the label
    /// corten.dev/sees-secrets=true [default: false; hardened: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    hide_secrets_from_webhooks: Option<bool>,
    /// Endpoints and EndpointSlices get addresses outside of the Pods' range only from who may create `endpoints/restricted`
    /// and `endpointslices/restricted` [default: false; hardened: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    restrict_endpoints: Option<bool>,
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

    /// Of namespaces that name no standard, where nothing else is configured.
    pub fn pod_security(&self) -> Option<PodSecurity> {
        self.is_hardened().then(PodSecurity::baseline)
    }

    pub fn deny_external_ips(&self) -> bool {
        self.is_hardened()
            || self
                .enable_admission_plugins
                .iter()
                .any(|name| name == EXTERNAL_IPS)
    }

    /// Of certificates for which nothing else is said.
    pub fn certificate_lifetime(&self) -> Duration {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        if self.is_hardened() { DAY } else { 365 * DAY }
    }

    /// What is asked beyond Kubernetes' defaults, where Pods have addresses of `pods`.
    pub fn strict(&self, pods: Ipv4Net) -> Strict {
        let or = |given: Option<Duration>, seconds: u64| {
            given.or_else(|| self.is_hardened().then(|| Duration::from_secs(seconds)))
        };
        let life = or(self.service_account_max_token_expiration, 60 * 60);
        Strict {
            bare_default_account: !self.automount_default_account.unwrap_or(!self.is_hardened()),
            token_seconds: life.and_then(|life| i64::try_from(life.as_secs()).ok()),
            webhook_limit: or(self.webhook_limit, 2),
            hides_secrets: self.hide_secrets_from_webhooks.unwrap_or(self.is_hardened()),
            pod_range: self
                .restrict_endpoints
                .unwrap_or(self.is_hardened())
                .then_some(pods),
        }
    }

    pub fn seats(&self) -> u32 {
        self.max_requests_inflight
            .saturating_add(self.max_mutating_requests_inflight)
            .max(1)
    }
}
