//! Which issuers of JWTs are believed, and what their claims make of a user. Pure.
//!
//! The form is Kubernetes' AuthenticationConfiguration; what of it is not supported (CEL expressions, rules about users) is an
//! error, never passed over. Source: `k8s.io/apiserver/pkg/apis/apiserver/v1`, `validation.go`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use serde::Deserialize;

/// Most issuers. Source: Kubernetes, `ValidateAuthenticationConfiguration`.
const MAX_ISSUERS: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    pub jwt: Vec<Jwt>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Jwt {
    pub issuer: Issuer,
    #[serde(default)]
    pub claim_validation_rules: Vec<Rule>,
    pub claim_mappings: Mappings,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    pub url: String,
    /// Where its documents are, if not below `url`.
    #[serde(default, rename = "discoveryURL")]
    pub discovery_url: String,
    /// PEM; empty: what the host trusts.
    #[serde(default)]
    pub certificate_authority: String,
    pub audiences: Vec<String>,
    #[serde(default)]
    pub audience_match_policy: String,
}

/// A claim that must have this value.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    pub claim: String,
    #[serde(default)]
    pub required_value: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mappings {
    pub username: Prefixed,
    #[serde(default)]
    pub groups: Option<Prefixed>,
    #[serde(default)]
    pub uid: Option<Claim>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prefixed {
    pub claim: String,
    /// Must be given, and may be empty.
    pub prefix: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    pub claim: String,
}

impl Configuration {
    /// From a configuration file, as JSON or YAML. `own_issuer`: of ServiceAccounts, which nobody else may be.
    ///
    /// # Errors
    /// What is wrong with it, by field.
    pub fn parse(text: &str, own_issuer: &str) -> Result<Configuration, String> {
        let read: Configuration = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        read.check(own_issuer)?;
        Ok(read)
    }

    fn check(&self, own_issuer: &str) -> Result<(), String> {
        let group = self.api_version.strip_prefix("apiserver.config.k8s.io/");
        if !matches!(group, Some("v1" | "v1beta1")) || self.kind != "AuthenticationConfiguration" {
            return Err(format!(
                "no kind {:?} is registered for version {:?}",
                self.kind, self.api_version
            ));
        }
        if self.jwt.len() > MAX_ISSUERS {
            return Err(format!(
                "jwt: Too many: {}: must have at most {MAX_ISSUERS} items",
                self.jwt.len()
            ));
        }
        for (index, jwt) in self.jwt.iter().enumerate() {
            let at = |field: &str, why: &str| Err(format!("jwt[{index}].{field}: {why}"));
            let issuer = &jwt.issuer;
            if !issuer.url.starts_with("https://") {
                return at("issuer.url", "Invalid value: URL scheme must be https");
            }
            if issuer.url == own_issuer {
                return at(
                    "issuer.url",
                    "Invalid value: URL must not overlap with disallowed issuers",
                );
            }
            if self.jwt[..index]
                .iter()
                .any(|other| other.issuer.url == issuer.url)
            {
                return at("issuer.url", "Duplicate value");
            }
            if !issuer.discovery_url.is_empty() && !issuer.discovery_url.starts_with("https://") {
                return at("issuer.discoveryURL", "Invalid value: URL scheme must be https");
            }
            if issuer.audiences.iter().all(String::is_empty) {
                return at(
                    "issuer.audiences",
                    "Required value: at least one jwt[*].issuer.audiences is required",
                );
            }
            match (issuer.audiences.len(), issuer.audience_match_policy.as_str()) {
                (1, "" | "MatchAny") | (2.., "MatchAny") => {}
                (2.., _) => {
                    return at(
                        "issuer.audienceMatchPolicy",
                        "Invalid value: audienceMatchPolicy must be MatchAny for multiple audiences",
                    );
                }
                _ => return at("issuer.audienceMatchPolicy", "Unsupported value"),
            }
            if jwt.claim_mappings.username.claim.is_empty() {
                return at(
                    "claimMappings.username",
                    "Required value: claim or expression is required",
                );
            }
            if jwt
                .claim_validation_rules
                .iter()
                .any(|rule| rule.claim.is_empty())
            {
                return at(
                    "claimValidationRules",
                    "Required value: claim or expression is required",
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: https://issuer.example
    audiences: [kubernetes]
  claimMappings:
    username: {claim: sub, prefix: 'oidc:'}
    groups: {claim: groups, prefix: ''}
";

    /// `want` is part of the error; empty for none.
    #[track_caller]
    fn check(text: &str, want: &str) {
        let got = Configuration::parse(text, "https://own")
            .err()
            .unwrap_or_default();
        assert!(got.contains(want) && (got.is_empty() == want.is_empty()), "{got}");
    }

    #[test]
    fn configurations() {
        check(GOOD, "");
        check(
            &GOOD.replace("https://issuer.example", "http://x"),
            "URL scheme must be https",
        );
        check(
            &GOOD.replace("https://issuer.example", "https://own"),
            "disallowed issuers",
        );
        check(&GOOD.replace("[kubernetes]", "[]"), "at least one");
        check(&GOOD.replace("[kubernetes]", "[a, b]"), "MatchAny for multiple");
        check(
            &GOOD
                .replace("kubernetes.io", "x")
                .replace("config.k8s.io/v1", "config.k8s.io/v7"),
            "no kind",
        );
        check(
            &GOOD.replace("claim: sub, prefix: 'oidc:'", "expression: claims.sub"),
            "unknown field",
        );
        check(&format!("{GOOD}anonymous: {{enabled: false}}\n"), "unknown field");
    }
}
