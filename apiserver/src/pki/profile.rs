//! Which TLS a server speaks: the oldest version and the cipher suites. Pure.
//!
//! Names are kube-apiserver's, of `--tls-min-version` and `--tls-cipher-suites`. Versions before 1.2 and suites without
//! forward secrecy or authenticated encryption do not exist here.

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

/// The default is TLS 1.2 and later, with every suite there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsProfile {
    only_tls13: bool,
    /// Suites of TLS 1.2; `None`: all. Those of TLS 1.3 cannot be chosen, as upstream.
    suites: Option<Vec<CipherSuite>>,
}

impl TlsProfile {
    /// TLS 1.3 only.
    #[must_use]
    pub fn strict() -> TlsProfile {
        TlsProfile {
            only_tls13: true,
            suites: None,
        }
    }

    /// # Errors
    /// With upstream's texts.
    pub fn parse(min_version: &str, suites: &[String]) -> Result<TlsProfile, String> {
        let only_tls13 = match min_version {
            "" | "VersionTLS10" | "VersionTLS11" | "VersionTLS12" => false,
            "VersionTLS13" => true,
            other => {
                return Err(format!(
                    "unknown tls version {other:?}, must be one of [VersionTLS10 VersionTLS11 VersionTLS12 VersionTLS13]"
                ));
            }
        };
        let known = rustls::crypto::ring::ALL_CIPHER_SUITES;
        let find = |name: &String| {
            let found = known
                .iter()
                .map(|known| known.suite())
                .find(|suite| named(*suite, name));
            found.ok_or_else(|| format!("Cipher suite {name} not supported or doesn't exist"))
        };
        let suites: Vec<CipherSuite> = suites.iter().map(find).collect::<Result<_, _>>()?;
        Ok(TlsProfile {
            only_tls13,
            suites: (!suites.is_empty()).then_some(suites),
        })
    }

    /// The names that `--tls-cipher-suites` takes.
    #[must_use]
    pub fn suite_names() -> Vec<String> {
        let all = rustls::crypto::ring::ALL_CIPHER_SUITES.iter();
        all.map(|suite| upstream_name(suite.suite())).collect()
    }

    /// The versions to offer.
    #[must_use]
    pub fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let older = (!self.only_tls13).then_some(&rustls::version::TLS12);
        [&rustls::version::TLS13].into_iter().chain(older).collect()
    }

    /// The provider with the suites to offer.
    #[must_use]
    pub fn provider(&self) -> CryptoProvider {
        let mut provider = rustls::crypto::ring::default_provider();
        if let Some(chosen) = &self.suites {
            provider.cipher_suites.retain(|suite| {
                matches!(suite, SupportedCipherSuite::Tls13(_)) || chosen.contains(&suite.suite())
            });
        }
        provider
    }
}

/// As Go names it: rustls says `TLS13_AES_128_GCM_SHA256` for `TLS_AES_128_GCM_SHA256`.
fn upstream_name(suite: CipherSuite) -> String {
    let name = suite.as_str().unwrap_or_default();
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name.to_owned(),
    }
}

/// Go also has short names for the suites with ChaCha20.
fn named(suite: CipherSuite, name: &str) -> bool {
    let own = upstream_name(suite);
    own == name || own.strip_suffix("_SHA256") == Some(name) && name.ends_with("_POLY1305")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(names: &[&str]) -> Result<TlsProfile, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        TlsProfile::parse("", &names)
    }

    #[test]
    fn names_are_upstreams() {
        assert_eq!(TlsProfile::parse("", &[]), Ok(TlsProfile::default()));
        assert_eq!(TlsProfile::parse("VersionTLS13", &[]), Ok(TlsProfile::strict()));
        assert_eq!(TlsProfile::parse("VersionTLS12", &[]), Ok(TlsProfile::default()));
        let unknown = TlsProfile::parse("TLS1.3", &[]).expect_err("no version");
        assert!(unknown.starts_with("unknown tls version \"TLS1.3\""), "{unknown}");
        let missing = suites(&["TLS_RSA_WITH_AES_128_CBC_SHA"]).expect_err("an old suite");
        assert_eq!(
            missing,
            "Cipher suite TLS_RSA_WITH_AES_128_CBC_SHA not supported or doesn't exist"
        );
        let one = suites(&[
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_AES_128_GCM_SHA256",
        ])
        .expect("suites");
        let offered: Vec<CipherSuite> = one
            .provider()
            .cipher_suites
            .iter()
            .map(|suite| suite.suite())
            .collect();
        assert!(offered.contains(&CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256));
        assert!(!offered.contains(&CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384));
        assert!(
            offered.contains(&CipherSuite::TLS13_AES_256_GCM_SHA384),
            "those of 1.3 stay"
        );
        assert!(suites(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]).is_ok());
        assert!(TlsProfile::suite_names().contains(&"TLS_CHACHA20_POLY1305_SHA256".to_owned()));
    }
}
