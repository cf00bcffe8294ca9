//! Which standards a namespace asks for: the labels `pod-security.kubernetes.io/*`. Pure.
//!
//! Source: Kubernetes `pod-security-admission/api/helpers.go`.

use std::fmt;
use std::str::FromStr;

use corten_api::field::FieldErrors;

const PREFIX: &str = "pod-security.kubernetes.io/";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The version of the standards; the newest one last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `v1.N`.
    Minor(u32),
    Latest,
}

/// `LEVEL:VERSION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standard {
    pub level: Level,
    pub version: Version,
}

impl Standard {
    pub const NONE: Standard = Standard {
        level: Level::Privileged,
        version: Version::Latest,
    };
}

/// What a namespace refuses, what it notes in the audit record, and what it warns about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub enforce: Standard,
    pub audit: Standard,
    pub warn: Standard,
}

impl Policy {
    pub const NONE: Policy = Policy {
        enforce: Standard::NONE,
        audit: Standard::NONE,
        warn: Standard::NONE,
    };

    /// Whether nothing is refused, noted or warned about.
    #[must_use]
    pub fn allows_anything(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|standard| standard.level == Level::Privileged)
    }

    /// The policy that labels ask for, and what is wrong with the labels. One that cannot be understood enforces the
    /// strictest level and says nothing else. Without a label it is `defaults`.
    #[must_use]
    pub fn of<'a>(defaults: Policy, label: impl Fn(&str) -> Option<&'a str>) -> (Policy, FieldErrors) {
        let mut errors = FieldErrors::default();
        let mut standard = |mode: &str, default: Standard, fallback: Level| {
            let mut standard = default;
            let key = format!("{PREFIX}{mode}");
            if let Some(value) = label(&key) {
                standard.level = value.parse().unwrap_or_else(|why: &str| {
                    errors.invalid(format!("metadata.labels[{key}]"), value, why);
                    fallback
                });
            }
            let key = format!("{PREFIX}{mode}-version");
            if let Some(value) = label(&key) {
                standard.version = value.parse().unwrap_or_else(|why: &str| {
                    errors.invalid(format!("metadata.labels[{key}]"), value, why);
                    Version::Latest
                });
            }
            standard
        };
        let policy = Policy {
            enforce: standard("enforce", defaults.enforce, Level::Restricted),
            audit: standard("audit", defaults.audit, Level::Privileged),
            warn: standard("warn", defaults.warn, Level::Privileged),
        };
        (policy, errors)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })
    }
}

impl FromStr for Level {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Level, &'static str> {
        match text {
            "privileged" => Ok(Level::Privileged),
            "baseline" => Ok(Level::Baseline),
            "restricted" => Ok(Level::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Minor(minor) => write!(f, "v1.{minor}"),
            Version::Latest => f.write_str("latest"),
        }
    }
}

impl FromStr for Version {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Version, &'static str> {
        let wrong = "must be \"latest\" or \"v1.x\"";
        if text == "latest" {
            return Ok(Version::Latest);
        }
        let digits = text.strip_prefix("v1.").ok_or(wrong)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || (digits.len() > 1 && digits.starts_with('0')) {
            return Err(wrong);
        }
        digits.parse().map(Version::Minor).map_err(|_| wrong)
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

impl FromStr for Standard {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Standard, &'static str> {
        let (level, version) = text.split_once(':').ok_or("must be LEVEL:VERSION")?;
        Ok(Standard {
            level: level.parse()?,
            version: version.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[(&str, &str)], wanted: &str, errors: &[&str]) {
        let find = |key: &str| {
            let key = key.strip_prefix(PREFIX)?;
            labels
                .iter()
                .find(|(known, _)| *known == key)
                .map(|(_, value)| *value)
        };
        let (policy, found) = Policy::of(Policy::NONE, find);
        assert_eq!(
            format!("{} {} {}", policy.enforce, policy.audit, policy.warn),
            wanted
        );
        let found: Vec<String> = found
            .causes()
            .into_iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        assert_eq!(found, errors);
    }

    #[test]
    fn labels_become_a_policy() {
        check(&[], "privileged:latest privileged:latest privileged:latest", &[]);
        check(
            &[
                ("enforce", "baseline"),
                ("enforce-version", "v1.30"),
                ("warn", "restricted"),
            ],
            "baseline:v1.30 privileged:latest restricted:latest",
            &[],
        );
        check(
            &[("enforce", "x"), ("audit", "y"), ("warn-version", "v1.01")],
            "restricted:latest privileged:latest privileged:latest",
            &[
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"y\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\"",
            ],
        );
    }
}
