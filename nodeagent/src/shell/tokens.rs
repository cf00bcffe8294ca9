//! The ServiceAccount tokens that Pods of this node show: asked for bound to the Pod, kept in memory, renewed before they end.
//!
//! A token that cannot be renewed is used until its end. Each Pod has one timer, for the token that is due first; it tells
//! the Pod's worker to refresh the volumes.
//!
//! Source: kubelet `pkg/kubelet/token`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use corten_client::ApiClient;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::objects::OnChange;
use crate::pod::containers::spec;
use crate::spec::TokenSpec;

/// A token is renewed when it is this old, however long it lives.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// It is renewed when this part of its life is left.
const RENEW_WITHIN: i64 = 5;
/// Up to this much earlier, so that a node's tokens are not all renewed at once.
const JITTER_SECONDS: f64 = 10.0;
/// Between two attempts to renew a token that is still good.
const RETRY: SignedDuration = SignedDuration::from_secs(30);

/// The tokens a Pod's volumes ask for. Pure.
pub fn wanted(pod: &Pod) -> BTreeSet<TokenSpec> {
    let projected = spec(pod)
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.projected.as_ref());
    projected
        .flat_map(|source| source.sources.iter().flatten())
        .filter_map(|part| part.service_account_token.as_ref())
        .map(TokenSpec::of)
        .collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    text: Arc<str>,
    renew_at: Timestamp,
    ends: Timestamp,
}

impl Token {
    /// `life`: seconds, as asked for; `random` in `0..1`.
    fn new(text: Arc<str>, ends: Timestamp, life: i64, random: f64) -> Token {
        let jitter = SignedDuration::from_millis((JITTER_SECONDS * 1000.0 * random) as i64);
        let life_left = SignedDuration::from_secs(life / RENEW_WITHIN);
        let made = ends - SignedDuration::from_secs(life);
        Token {
            text,
            renew_at: (ends - life_left).min(made + MAX_AGE) - jitter,
            ends,
        }
    }
}

#[derive(Default)]
struct Held {
    tokens: BTreeMap<TokenSpec, Token>,
    timer: Option<AbortHandle>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

/// By the Pods' uids. Clones are the same.
#[derive(Clone)]
pub struct TokenCache {
    api: ApiClient,
    on_change: OnChange,
    held: Arc<Mutex<HashMap<String, Held>>>,
}

impl TokenCache {
    /// `on_change` is told the uid of a Pod whose token is due.
    pub fn new(api: ApiClient, on_change: OnChange) -> TokenCache {
        TokenCache {
            api,
            on_change,
            held: Arc::default(),
        }
    }

    /// The tokens of the Pod's volumes, until [`release`](Self::release).
    pub async fn get(&self, pod: &Pod) -> BTreeMap<TokenSpec, Result<Arc<str>, String>> {
        let wanted = wanted(pod);
        let mut found = BTreeMap::new();
        if wanted.is_empty() {
            return found;
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut tokens = {
            let held = self.held.lock();
            held.get(&uid).map(|held| held.tokens.clone()).unwrap_or_default()
        };
        for wanted in wanted {
            let now = Timestamp::now();
            let known = tokens.get(&wanted).filter(|token| now < token.ends).cloned();
            let token = match known {
                Some(token) if now < token.renew_at => Ok(token),
                known => match (self.request(pod, &wanted).await, known) {
                    (Ok(token), _) => Ok(token),
                    (Err(error), Some(mut token)) => {
                        tracing::warn!(uid, ends = %token.ends, error, "a token was not renewed");
                        token.renew_at = (now + RETRY).min(token.ends);
                        Ok(token)
                    }
                    (Err(error), None) => Err(error),
                },
            };
            found.insert(wanted.clone(), token.clone().map(|token| token.text));
            match token {
                Ok(token) => drop(tokens.insert(wanted, token)),
                Err(_) => drop(tokens.remove(&wanted)),
            }
        }
        self.keep(uid, tokens);
        found
    }

    fn keep(&self, uid: String, tokens: BTreeMap<TokenSpec, Token>) {
        let Some(due) = tokens.values().map(|token| token.renew_at).min() else {
            return;
        };
        let wait: Duration = due
            .duration_since(Timestamp::now())
            .try_into()
            .unwrap_or_default();
        let (on_change, told) = (self.on_change.clone(), uid.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            on_change(vec![told]);
        });
        let held = Held {
            tokens,
            timer: Some(timer.abort_handle()),
        };
        self.held.lock().insert(uid, held);
    }

    pub fn release(&self, uid: &str) {
        self.held.lock().remove(uid);
    }

    async fn request(&self, pod: &Pod, wanted: &TokenSpec) -> Result<Token, String> {
        let (path, request) = request(pod, wanted);
        let answer: TokenRequest = self
            .api
            .ask(&path, &request)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status.unwrap_or_default();
        match (status.token, status.expiration_timestamp) {
            (Some(text), Some(ends)) if !text.is_empty() => {
                // The server may have given another life than was asked for.
                let given = answer.spec.and_then(|spec| spec.expiration_seconds);
                let life = given.unwrap_or(wanted.life);
                Ok(Token::new(text.into(), ends.0, life, rand::random()))
            }
            _ => Err("the API server gave no token".to_owned()),
        }
    }
}

/// Where a token is asked for, and how. Pure.
fn request(pod: &Pod, wanted: &TokenSpec) -> (String, TokenRequest) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let account = spec(pod)
        .service_account_name
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!wanted.audience.is_empty()).then(|| vec![wanted.audience.clone()]),
            expiration_seconds: Some(wanted.life),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    (
        format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"),
        request,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_renewed_at_four_fifths_or_after_a_day() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let check = |life: i64, random: f64, wanted: i64| {
            let token = Token::new("t".into(), at(1_000_000 + life), life, random);
            assert_eq!(token.renew_at, at(1_000_000 + wanted), "{life} {random}");
        };
        check(3607, 0.0, 3607 - 721);
        check(3607, 1.0, 3607 - 721 - 10);
        check(600, 0.5, 480 - 5);
        check(100 * 3600, 0.0, 80 * 3600 - 56 * 3600);
    }

    #[test]
    fn what_a_pod_asks_for() {
        let source = json!({"sources": [
            {"serviceAccountToken": {"path": "a", "expirationSeconds": 3607}},
            {"configMap": {"name": "m"}},
            {"serviceAccountToken": {"path": "b", "audience": "vault"}},
        ]});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "serviceAccountName": "robot", "volumes": [{"name": "v", "projected": source}]},
        }))
        .expect("a Pod");
        let all: Vec<TokenSpec> = wanted(&pod).into_iter().collect();
        let shown: Vec<(&str, i64)> = all
            .iter()
            .map(|spec| (spec.audience.as_str(), spec.life))
            .collect();
        assert_eq!(shown, [("", 3607), ("vault", 3600)]);
        let (path, asked) = request(&pod, &all[1]);
        assert_eq!(path, "/api/v1/namespaces/n/serviceaccounts/robot/token");
        assert_eq!(
            serde_json::to_value(asked.spec).expect("JSON"),
            json!({"audiences": ["vault"], "expirationSeconds": 3600,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}})
        );
    }
}
