//! `EncryptionConfiguration` (apiserver.config.k8s.io/v1), upstream's file. Pure.
//!
//! Providers `aesgcm` and `identity`. A key is an input to key derivation, so 16, 24 and 32 bytes are all taken.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;

use super::{Key, PLAIN, Ring, Rule};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read the encryption configuration: {0}")]
    Syntax(String),
    #[error("resources[{at}]: {problem}")]
    Entry { at: usize, problem: String },
}

const API_VERSION: &str = "apiserver.config.k8s.io/v1";
const KIND: &str = "EncryptionConfiguration";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    resources: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    resources: Vec<String>,
    providers: Vec<HashMap<String, Provider>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Provider {
    #[serde(default)]
    keys: Vec<NamedKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedKey {
    name: String,
    /// Base64.
    secret: String,
}

impl Ring {
    /// The ring a configuration describes: its first provider seals, all of them open.
    ///
    /// # Errors
    /// The entry and what is wrong with it. No key is ever part of the text.
    pub fn parse(text: &str) -> Result<Ring, ConfigError> {
        let file: File = serde_saphyr::from_str(text).map_err(|_| {
            ConfigError::Syntax(
                "it is not an EncryptionConfiguration, or a field of it is unknown or missing".into(),
            )
        })?;
        if file.api_version != API_VERSION || file.kind != KIND {
            return Err(ConfigError::Syntax(format!(
                "it must be of kind {KIND}, apiVersion {API_VERSION}"
            )));
        }
        let mut ring = Ring::default();
        for (at, entry) in file.resources.into_iter().enumerate() {
            let rule = ring
                .entry(entry)
                .map_err(|problem| ConfigError::Entry { at, problem })?;
            ring.rules.push(rule);
        }
        Ok(ring)
    }

    fn entry(&mut self, entry: Entry) -> Result<Rule, String> {
        if entry.resources.is_empty() || entry.providers.is_empty() {
            return Err("resources and providers must not be empty".into());
        }
        for name in &entry.resources {
            let (plural, group) = name.split_once('.').unwrap_or((name, ""));
            if plural.is_empty() || (plural == "*" && !name.contains('.')) {
                return Err(format!(
                    "resource {name:?} must be RESOURCE, RESOURCE.GROUP, *.GROUP or *.*"
                ));
            }
            if PLAIN.contains(&(group, plural)) {
                return Err(format!("{name} cannot be encrypted"));
            }
        }
        let mut writer = None;
        for (number, provider) in entry.providers.into_iter().enumerate() {
            let mut kinds = provider.into_iter();
            let (Some((kind, provider)), None) = (kinds.next(), kinds.next()) else {
                return Err(format!("providers[{number}] must name exactly one provider"));
            };
            match kind.as_str() {
                "identity" => {}
                "aesgcm" => {
                    if provider.keys.is_empty() {
                        return Err(format!("providers[{number}]: aesgcm needs a key"));
                    }
                    for (key_number, key) in provider.keys.iter().enumerate() {
                        let secret = STANDARD
                            .decode(key.secret.trim())
                            .map_err(|_| format!("key {:?} is not base64", key.name))?;
                        if ![16, 24, 32].contains(&secret.len()) {
                            return Err(format!("key {:?} must have 16, 24 or 32 bytes", key.name));
                        }
                        let (id, key) = Key::new(&secret);
                        self.keys.insert(id, key);
                        if number == 0 && key_number == 0 {
                            writer = Some(id);
                        }
                    }
                }
                other => {
                    return Err(format!(
                        "provider {other:?} is not supported; use \"aesgcm\" or \"identity\""
                    ));
                }
            }
        }
        Ok(Rule {
            resources: entry.resources,
            writer,
        })
    }
}

/// A configuration with one new key that covers Secrets, for a cluster that was given none.
#[must_use]
pub fn generate() -> String {
    let mut secret = [0; 32];
    SystemRandom::new()
        .fill(&mut secret)
        .expect("the operating system has random numbers");
    let secret = STANDARD.encode(secret);
    format!(
        "apiVersion: {API_VERSION}\nkind: {KIND}\nresources:\n- resources: [secrets]\n  providers:\n  - aesgcm:\n      keys:\n      - name: key1\n        secret: {secret}\n  - identity: {{}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_configuration_seals_secrets() {
        let ring = Ring::parse(&generate()).expect("ours");
        assert!(ring.seal("", "secrets", b"i", b"x").is_some());
        assert!(ring.seal("", "configmaps", b"i", b"x").is_none());
    }

    #[track_caller]
    fn refused(resources: &str, wanted: &str) {
        let text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nresources:\n{resources}");
        let error = Ring::parse(&text).expect_err("refused").to_string();
        assert!(error.contains(wanted), "{error}");
        assert!(!error.contains("c2VjcmV0"), "a key is told: {error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let with = |resource: &str, provider: &str| {
            format!("- resources: [{resource}]\n  providers:\n  - {provider}\n")
        };
        refused(
            &with("secrets", "kms: {}"),
            "resources[0]: provider \"kms\" is not supported",
        );
        refused(
            &with("namespaces", "identity: {}"),
            "namespaces cannot be encrypted",
        );
        refused(
            &with("secrets", "aesgcm: {keys: [{name: k, secret: c2VjcmV0}]}"),
            "must have 16, 24 or 32 bytes",
        );
        refused(&with("secrets", "aesgcm: {keys: []}"), "needs a key");
        refused("- resources: []\n  providers: []\n", "must not be empty");
        refused(
            &with("secrets", "aesgcm: {unknown: c2VjcmV0}"),
            "a field of it is unknown",
        );
    }

    #[test]
    fn the_first_provider_writes() {
        let key = STANDARD.encode([7; 32]);
        let text = |providers: &str| {
            format!(
                "apiVersion: {API_VERSION}\nkind: {KIND}\nresources:\n- resources: [secrets]\n  providers: [{providers}]\n"
            )
        };
        let aes = format!("{{aesgcm: {{keys: [{{name: k, secret: {key}}}]}}}}");
        let sealing = Ring::parse(&text(&format!("{aes}, {{identity: {{}}}}"))).expect("fine");
        let sealed = sealing.seal("", "secrets", b"i", b"x").expect("sealed");
        let plain = Ring::parse(&text(&format!("{{identity: {{}}}}, {aes}"))).expect("fine");
        assert!(plain.seal("", "secrets", b"i", b"x").is_none());
        assert_eq!(plain.open(&sealed).as_deref(), Ok(b"x".as_slice()));
    }
}
