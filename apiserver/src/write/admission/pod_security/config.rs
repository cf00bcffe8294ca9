//! What an administrator configures about Pod security: the standards of namespaces that name none, and who is exempt. Pure.
//!
//! Source: Kubernetes `pod-security-admission/admission/api`, PodSecurityConfiguration v1.

use serde::Deserialize;
use serde_json::Value;

use crate::admission_config::typed;

use super::policy::{Level, Policy, Standard, Version};

const GROUP: &str = "pod-security.admission.config.k8s.io/v1";

/// A PodSecurityConfiguration.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) defaults: Policy,
    exempt: Exemptions,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Exemptions {
    usernames: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

impl Settings {
    /// `baseline` where a namespace names no other standard.
    #[must_use]
    pub fn baseline() -> Settings {
        let baseline = Standard {
            level: Level::Baseline,
            version: Version::Latest,
        };
        Settings {
            defaults: Policy {
                enforce: baseline,
                ..Policy::NONE
            },
            exempt: Exemptions::default(),
        }
    }

    /// # Errors
    /// What is wrong, with the field's name.
    pub fn parse(value: Value) -> Result<Settings, String> {
        let read: Configuration = typed(value, GROUP, "PodSecurityConfiguration")?;
        let standard = |mode: &str, level: &str, version: &str| -> Result<Standard, String> {
            let wrong = |field: &str, value: &str, why: &str| {
                format!("defaults.{field}: Invalid value: {value:?}: {why}")
            };
            let mut out = Standard::NONE;
            if !level.is_empty() {
                out.level = level.parse().map_err(|why: &str| wrong(mode, level, why))?;
            }
            if !version.is_empty() {
                let field = format!("{mode}-version");
                out.version = version.parse().map_err(|why: &str| wrong(&field, version, why))?;
            }
            Ok(out)
        };
        let given = &read.defaults;
        Ok(Settings {
            defaults: Policy {
                enforce: standard("enforce", &given.enforce, &given.enforce_version)?,
                audit: standard("audit", &given.audit, &given.audit_version)?,
                warn: standard("warn", &given.warn, &given.warn_version)?,
            },
            exempt: read.exemptions,
        })
    }

    /// Why a request is exempt, if it is.
    #[must_use]
    pub fn exempts(&self, namespace: &str, user: &str) -> Option<&'static str> {
        let has = |list: &[String], word: &str| list.iter().any(|own| own == word);
        if has(&self.exempt.namespaces, namespace) {
            return Some("namespace");
        }
        (has(&self.exempt.usernames, user) && !user.is_empty()).then_some("user")
    }

    /// Whether Pods of a RuntimeClass are exempt.
    #[must_use]
    pub fn exempts_class(&self, class: &str) -> bool {
        !class.is_empty() && self.exempt.runtime_classes.iter().any(|own| own == class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(defaults: Value, exemptions: Value) -> Result<Settings, String> {
        Settings::parse(
            json!({ "apiVersion": GROUP, "kind": "PodSecurityConfiguration", "defaults": defaults, "exemptions": exemptions }),
        )
    }

    #[test]
    fn a_configuration_is_read() {
        let given = json!({ "enforce": "baseline", "enforce-version": "v1.30", "warn": "restricted" });
        let exempt = json!({ "usernames": ["robot"], "namespaces": ["infra"], "runtimeClasses": ["vm"] });
        let own = parse(given, exempt).expect("a configuration");
        let Policy { enforce, audit, warn } = own.defaults;
        assert_eq!(
            format!("{enforce} {audit} {warn}"),
            "baseline:v1.30 privileged:latest restricted:latest"
        );
        assert_eq!(own.exempts("infra", "robot"), Some("namespace"));
        assert_eq!(own.exempts("a", "robot"), Some("user"));
        assert_eq!(own.exempts("a", ""), None);
        assert!(own.exempts_class("vm") && !own.exempts_class(""));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let check = |defaults: Value, want: &str| {
            let error = parse(defaults, json!({})).expect_err("refused");
            assert!(error.contains(want), "{error}");
        };
        check(
            json!({ "enforce": "strict" }),
            "defaults.enforce: Invalid value: \"strict\": must be one of",
        );
        check(json!({ "warn-version": "1.30" }), "defaults.warn-version");
        check(json!({ "forbid": "x" }), "unknown field `forbid`");
    }
}
