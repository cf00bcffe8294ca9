//! The query string as Kubernetes' option types. Pure.
//!
//! Knows parameter names and their values. Must not know what a verb does with them.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use corten_api::field::FieldErrors;
use corten_api::status::Qualified;
use corten_api::{FieldValidation, Status};
use percent_encoding::percent_decode_str;
use serde_json::json;

/// Decoded parameters in their order. Bounded by the request line's own limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// A parameter whose value cannot be read; the text is what goes into a `BadRequest`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadParameter(pub String);

impl Query {
    #[must_use]
    pub fn parse(raw: Option<&str>) -> Query {
        let decode = |text: &str| {
            percent_decode_str(&text.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        let pairs = raw
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(key), decode(value))
            });
        Query(pairs.collect())
    }

    /// The first value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// Upstream's rule for boolean parameters: present and neither `0` nor `false`. Source: Kubernetes
    /// `Convert_Slice_string_To_bool`.
    #[must_use]
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// Present and empty is no number, as upstream's converter has it.
    fn number(&self, key: &str) -> Result<Option<i64>, BadParameter> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|error: std::num::ParseIntError| {
            use std::num::IntErrorKind::{NegOverflow, PosOverflow};
            let why = match error.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            BadParameter(format!("strconv.ParseInt: parsing {value:?}: {why}"))
        })
    }
}

/// Parameters of get, list, watch and deletecollection. Source: Kubernetes `ListOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// Objects a page, 0 for all. What is below 0 means 0, as upstream has it.
    pub limit: u64,
    pub continue_token: Option<String>,
    /// `None` when absent or empty.
    pub resource_version: Option<String>,
    /// `None` when absent or empty; not checked here (`read::options` does).
    pub resource_version_match: Option<String>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    /// Seconds a watch may last; below 0 it is over at once.
    pub timeout_seconds: Option<i64>,
}

impl ListOptions {
    /// # Errors
    /// A number that cannot be read.
    pub fn parse(query: &Query) -> Result<ListOptions, BadParameter> {
        let text = |key| {
            query
                .get(key)
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
        };
        Ok(ListOptions {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            limit: u64::try_from(query.number("limit")?.unwrap_or(0)).unwrap_or(0),
            continue_token: text("continue"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            allow_watch_bookmarks: query.is_true("allowWatchBookmarks"),
            send_initial_events: query
                .get("sendInitialEvents")
                .map(|_| query.is_true("sendInitialEvents")),
            timeout_seconds: query.number("timeoutSeconds")?,
        })
    }
}

/// Parameters of create, update and patch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub validation: FieldValidation,
}

impl WriteOptions {
    /// `kind` names the options in errors: `CreateOptions`.
    ///
    /// # Errors
    /// `Invalid`: a `dryRun` that is not `All`, or an unknown `fieldValidation`. Source: Kubernetes
    /// `ValidateCreateOptions` and its siblings.
    pub fn parse(query: &Query, kind: &str) -> Result<WriteOptions, Status> {
        let mut errors = FieldErrors::default();
        let dry_run: Vec<&str> = query.all("dryRun").filter(|value| !value.is_empty()).collect();
        if dry_run.iter().any(|value| *value != "All") {
            errors.not_supported("dryRun", json!(dry_run), &["All"]);
        }
        let word = query.get("fieldValidation").unwrap_or_default();
        let validation = FieldValidation::parse(word).unwrap_or_else(|_| {
            errors.not_supported("fieldValidation", word, &["", "Ignore", "Strict", "Warn"]);
            FieldValidation::default()
        });
        if !errors.is_empty() {
            return Err(Status::invalid(Qualified::new("meta.k8s.io", kind), "", &errors));
        }
        Ok(WriteOptions {
            dry_run: !dry_run.is_empty(),
            validation,
        })
    }
}

/// Query form of `DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteQuery {
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: Option<String>,
    pub orphan_dependents: Option<bool>,
    /// As given, not checked here.
    pub dry_run: Vec<String>,
}

impl DeleteQuery {
    /// # Errors
    /// A number that cannot be read.
    pub fn parse(query: &Query) -> Result<DeleteQuery, BadParameter> {
        Ok(DeleteQuery {
            grace_period_seconds: query.number("gracePeriodSeconds")?,
            propagation_policy: query
                .get("propagationPolicy")
                .filter(|v| !v.is_empty())
                .map(str::to_owned),
            orphan_dependents: query
                .get("orphanDependents")
                .map(|_| query.is_true("orphanDependents")),
            dry_run: query
                .all("dryRun")
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, want: Result<ListOptions, ()>) {
        assert_eq!(
            ListOptions::parse(&Query::parse(Some(raw))).map_err(|_| ()),
            want,
            "{raw}"
        );
    }

    #[test]
    fn list_options() {
        check("", Ok(ListOptions::default()));
        check(
            "labelSelector=a%3Db%2Cc&limit=500&resourceVersion=",
            Ok(ListOptions {
                label_selector: Some("a=b,c".into()),
                limit: 500,
                ..ListOptions::default()
            }),
        );
        check(
            "allowWatchBookmarks=true&sendInitialEvents=false&timeoutSeconds=7&resourceVersionMatch=Exact",
            Ok(ListOptions {
                allow_watch_bookmarks: true,
                send_initial_events: Some(false),
                timeout_seconds: Some(7),
                resource_version_match: Some("Exact".into()),
                ..ListOptions::default()
            }),
        );
        check("limit=-1", Ok(ListOptions::default()));
        for bad in [
            "limit=x",
            "limit=",
            "limit=99999999999999999999",
            "timeoutSeconds=1s",
        ] {
            check(bad, Err(()));
        }
    }

    #[test]
    fn write_options() {
        let parse =
            |raw: &str| WriteOptions::parse(&Query::parse(Some(raw)), "PatchOptions").map_err(|s| s.message);
        assert_eq!(
            parse("dryRun=All&fieldValidation=Strict"),
            Ok(WriteOptions {
                dry_run: true,
                validation: FieldValidation::Strict
            })
        );
        let bad = "PatchOptions.meta.k8s.io \"\" is invalid: ";
        assert_eq!(
            parse("dryRun=some"),
            Err(format!(
                "{bad}dryRun: Unsupported value: [\"some\"]: supported values: \"All\""
            ))
        );
        assert_eq!(
            parse("fieldValidation=Maybe"),
            Err(format!(
                "{bad}fieldValidation: Unsupported value: \"Maybe\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
            ))
        );
    }
}
