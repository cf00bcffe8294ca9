//! `serviceaccounts/token`: what a token is asked for, checked and answered. Pure.
//!
//! Source: Kubernetes `pkg/registry/core/serviceaccount/storage/token.go`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use corten_api::field::FieldErrors;
use corten_api::kinds::authentication::token_request::{set_defaults, validate};
use corten_api::status::Qualified;
use corten_api::{Status, meta, time};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::strict::Strict;
use crate::tokens::Issuer;
use crate::tokens::claims::{self, Bound};

const KIND: Qualified<'static> = Qualified {
    group: "authentication.k8s.io",
    name: "TokenRequest",
};

/// A TokenRequest on its way to an answer.
#[derive(Debug)]
pub struct Request(Value);

impl Request {
    /// # Errors
    /// `Invalid` for another name or namespace than those of the URL.
    pub fn new(mut request: Value, namespace: &str, name: &str) -> Result<Request, Status> {
        let mut errors = FieldErrors::default();
        for (field, own, wanted) in [
            ("name", meta::name(&request), name),
            ("namespace", meta::namespace(&request), namespace),
        ] {
            if !own.is_empty() && own != wanted && errors.is_empty() {
                errors.invalid(
                    format!("metadata.{field}"),
                    own,
                    &format!("must match the service account {field} if specified"),
                );
            }
        }
        if !errors.is_empty() {
            return Err(Status::invalid(KIND, name, &errors));
        }
        if let Some(map) = request.as_object_mut() {
            set_defaults(map);
        }
        Ok(Request(request))
    }

    /// Fills in what the request left open. `audiences`: those of this API.
    ///
    /// # Errors
    /// `Invalid` for a life out of bounds, `Conflict` for another account's uid.
    pub fn complete(
        mut self,
        account: &Value,
        audiences: Vec<String>,
        now: Timestamp,
    ) -> Result<Request, Status> {
        let request = &mut self.0;
        let (asked, uid) = (meta::uid(request), meta::uid(account));
        if !asked.is_empty() && asked != uid {
            return Err(Status::conflict(
                KIND,
                meta::name(account),
                format!(
                    "the UID in the token request ({asked}) does not match the UID of the service account ({uid})"
                ),
            ));
        }
        meta::set(request, "name", meta::name(account).into());
        meta::set(request, "namespace", meta::namespace(account).into());
        meta::set(request, "uid", uid.into());
        meta::set(request, "creationTimestamp", time::format_time(now).into());
        if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
            request["spec"]["audiences"] = audiences.into();
        }
        let mut errors = FieldErrors::default();
        validate(request, &mut errors);
        if !errors.is_empty() {
            return Err(Status::invalid(KIND, "", &errors));
        }
        Ok(self)
    }

    /// Shortens a life that is longer than tokens have here; what the client is told of it.
    pub fn shorten(&mut self, strict: &Strict) -> Option<String> {
        let asked = self.0["spec"]["expirationSeconds"].as_i64().unwrap_or_default();
        let (seconds, told) = strict.token_life(asked);
        self.0["spec"]["expirationSeconds"] = seconds.into();
        told
    }

    /// The objects the token is to be bound to. `find` reads one by plural, namespace and name.
    ///
    /// # Errors
    /// `NotFound`, `BadRequest` for another account's Pod or a kind no token can be bound to, `Conflict` for a uid.
    pub fn bound(
        &self,
        namespace: &str,
        account: &str,
        find: impl Fn(&str, &str, &str) -> Result<Value, Status>,
    ) -> Result<Bound, Status> {
        let reference = &self.0["spec"]["boundObjectRef"];
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let mut bound = Bound::default();
        if !reference.is_object() {
            return Ok(bound);
        }
        let (api_version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let object = match (group, kind) {
            ("", "Pod") => {
                let pod = find("pods", namespace, name)?;
                if pod["spec"]["serviceAccountName"] != account {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                    // A node that is gone is still named, without its uid.
                    bound.node = Some(match find("nodes", "", node) {
                        Ok(found) => found,
                        Err(status) if status.is_not_found() => json!({"metadata": {"name": node}}),
                        Err(status) => return Err(status),
                    });
                }
                bound.pod.insert(pod)
            }
            ("", "Node") => bound.node.insert(find("nodes", "", name)?),
            ("", "Secret") => bound.secret.insert(find("secrets", namespace, name)?),
            _ => {
                let place = if group.is_empty() {
                    format!("/{version}")
                } else {
                    format!("{group}/{version}")
                };
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {place}, Kind={kind}"
                )));
            }
        };
        let uid = text("uid");
        if !uid.is_empty() && uid != meta::uid(object) {
            return Err(Status::conflict(
                Qualified::new("", kind),
                name,
                format!(
                    "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
                ),
            ));
        }
        Ok(bound)
    }

    /// The request with its token.
    ///
    /// # Errors
    /// Only when there is no randomness to sign with.
    pub fn answer(
        mut self,
        issuer: &Issuer,
        account: &Value,
        bound: &Bound,
        id: &str,
        now: Timestamp,
    ) -> Result<Value, String> {
        let request = &mut self.0;
        let audiences = super::strings(&request["spec"]["audiences"]);
        let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or_default();
        let own = issuer.audiences();
        let for_us = audiences.iter().all(|a| own.contains(a));
        let claims = claims::make(issuer.url(), account, bound, &audiences, for_us, seconds, id, now);
        let ends = now.saturating_add(SignedDuration::from_secs(seconds));
        let ends = ends.map_err(|error| error.to_string())?;
        request["status"] = json!({
            "token": issuer.sign(&claims, now)?,
            "expirationTimestamp": time::format_time(ends),
        });
        Ok(self.0)
    }
}
