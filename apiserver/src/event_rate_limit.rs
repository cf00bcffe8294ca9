//! EventRateLimit: how many Events are taken in, by server, namespace, user, or by whom they come from and are about.
//!
//! Off unless configured. The one plug-in of admission with a memory of its own: buckets of tokens, of which the least
//! recently used go when there are too many. Events of `events.k8s.io` are not counted, as upstream.
//!
//! Source: Kubernetes `plugin/pkg/admission/eventratelimit`.

use std::collections::{BTreeMap, HashMap};

use corten_api::Status;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::admission_config::typed;

pub const PLUGIN: &str = "EventRateLimit";
const GROUP: &str = "eventratelimit.admission.k8s.io/v1alpha1";
/// Buckets of one limit. Source: Kubernetes, `defaultCacheSize`.
const DEFAULT_CACHE: usize = 4096;
const MAX_CACHE: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Kind {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LimitConfig {
    #[serde(rename = "type")]
    kind: Kind,
    qps: i32,
    burst: i32,
    #[serde(default)]
    cache_size: i32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    #[serde(default)]
    limits: Vec<LimitConfig>,
}

/// Whom an Event is charged to.
#[derive(Debug, Clone, Copy)]
pub struct Charged<'a> {
    pub user: &'a str,
    pub namespace: &'a str,
    pub event: &'a Value,
}

impl Kind {
    fn key(self, charged: Charged<'_>) -> String {
        match self {
            Kind::Server => String::new(),
            Kind::Namespace => charged.namespace.to_owned(),
            Kind::User => charged.user.to_owned(),
            Kind::SourceAndObject => {
                let (source, about) = (&charged.event["source"], &charged.event["involvedObject"]);
                let fields = ["kind", "namespace", "name", "uid", "apiVersion"];
                let parts = [&source["component"], &source["host"]];
                let parts = parts.into_iter().chain(fields.iter().map(|field| &about[*field]));
                parts.map(|part| part.as_str().unwrap_or_default()).collect()
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
    /// When it was used last, in the order of uses.
    used: u64,
}

#[derive(Debug, Default)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
    by_use: BTreeMap<u64, String>,
    uses: u64,
}

#[derive(Debug)]
struct Limit {
    kind: Kind,
    qps: f64,
    burst: f64,
    cache: usize,
    buckets: Mutex<Buckets>,
}

impl Limit {
    /// Takes a token, if there is one.
    fn accept(&self, key: &str, now: Timestamp) -> bool {
        let mut buckets = self.buckets.lock();
        buckets.uses += 1;
        let used = buckets.uses;
        let mut bucket = match buckets.by_key.get(key) {
            Some(known) => *known,
            None => Bucket {
                tokens: self.burst,
                at: now,
                used,
            },
        };
        buckets.by_use.remove(&bucket.used);
        let since = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + since * self.qps).min(self.burst);
        bucket.at = now;
        bucket.used = used;
        let accepted = bucket.tokens >= 1.0;
        if accepted {
            bucket.tokens -= 1.0;
        }
        buckets.by_key.insert(key.to_owned(), bucket);
        buckets.by_use.insert(used, key.to_owned());
        if buckets.by_key.len() > self.cache
            && let Some((_, oldest)) = buckets.by_use.pop_first()
        {
            buckets.by_key.remove(&oldest);
        }
        accepted
    }
}

/// The limits of one server.
#[derive(Debug)]
pub struct EventRateLimit(Vec<Limit>);

impl EventRateLimit {
    /// Reads the plug-in's Configuration.
    ///
    /// # Errors
    /// What is wrong, with the field's name.
    pub fn parse(configuration: Value) -> Result<EventRateLimit, String> {
        let config: Configuration = typed(configuration, GROUP, "Configuration")?;
        if config.limits.is_empty() {
            return Err("limits: Invalid value: []: must not be empty".into());
        }
        let mut limits = Vec::new();
        for (place, limit) in config.limits.into_iter().enumerate() {
            let positive = |field: &str, value: i32| match value > 0 {
                true => Ok(f64::from(value)),
                false => Err(format!(
                    "limits[{place}].{field}: Invalid value: {value}: must be positive"
                )),
            };
            let cache = match usize::try_from(limit.cache_size) {
                Err(_) => {
                    let value = limit.cache_size;
                    return Err(format!(
                        "limits[{place}].cacheSize: Invalid value: {value}: must not be negative"
                    ));
                }
                Ok(0) => DEFAULT_CACHE,
                Ok(size) => size.min(MAX_CACHE),
            };
            limits.push(Limit {
                kind: limit.kind,
                qps: positive("qps", limit.qps)?,
                burst: positive("burst", limit.burst)?,
                cache,
                buckets: Mutex::default(),
            });
        }
        Ok(EventRateLimit(limits))
    }

    /// Charges one Event to every limit.
    ///
    /// # Errors
    /// `TooManyRequests` with upstream's text.
    pub fn charge(&self, charged: Charged<'_>, now: Timestamp) -> Result<(), Status> {
        let reached: Vec<String> = self
            .0
            .iter()
            .filter_map(|limit| {
                let key = limit.kind.key(charged);
                let refused = !limit.accept(&key, now);
                refused.then(|| format!("limit reached on type {:?} for key {key}", limit.kind))
            })
            .collect();
        let text = match reached.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        Err(Status::failure(
            429,
            "TooManyRequests",
            format!("Too many requests: {text}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(limits: &str) -> Result<EventRateLimit, String> {
        let file = format!("apiVersion: {GROUP}\nkind: Configuration\nlimits: {limits}\n");
        EventRateLimit::parse(serde_saphyr::from_str(&file).expect("YAML"))
    }

    #[test]
    fn events_are_charged_to_their_namespace() {
        let limits = parse("[{type: Namespace, qps: 2, burst: 3, cacheSize: 2}]").expect("a configuration");
        let charge = |namespace: &str, millis: i64| {
            let charged = Charged {
                user: "u",
                namespace,
                event: &json!({}),
            };
            let now = Timestamp::from_millisecond(millis).expect("a time");
            limits
                .charge(charged, now)
                .map_err(|status| status.message.to_string())
        };
        for _ in 0..3 {
            assert_eq!(charge("a", 0), Ok(()));
        }
        let refused = "Too many requests: limit reached on type Namespace for key a";
        assert_eq!(charge("a", 400), Err(refused.into()));
        assert_eq!(charge("b", 400), Ok(()), "another's is its own");
        assert_eq!(charge("a", 500), Ok(()), "one token came back");
        assert!(charge("a", 500).is_err());
        // A third pushes out the one that was used least recently, and it starts anew.
        assert_eq!(charge("c", 500), Ok(()));
        assert_eq!(limits.0[0].buckets.lock().by_key.len(), 2);
        assert_eq!(limits.0[0].buckets.lock().by_use.len(), 2);
        assert!(charge("a", 500).is_err());
    }

    #[test]
    fn keys_name_who_and_what() {
        let event = json!({
            "source": {"component": "kubelet", "host": "n"},
            "involvedObject": {"kind": "Pod", "namespace": "a", "name": "p", "uid": "u", "apiVersion": "v1"},
        });
        let charged = Charged {
            user: "x",
            namespace: "a",
            event: &event,
        };
        assert_eq!(Kind::SourceAndObject.key(charged), "kubeletnPodapuv1");
        assert_eq!(Kind::User.key(charged), "x");
        assert_eq!(Kind::Server.key(charged), "");
    }

    #[test]
    fn what_cannot_be_is_said() {
        let check = |limits: &str, want: &str| {
            let error = parse(limits).expect_err("refused");
            assert!(error.contains(want), "{error}");
        };
        check("[]", "limits: Invalid value");
        check(
            "[{type: Server, qps: 0, burst: 1}]",
            "limits[0].qps: Invalid value: 0: must be positive",
        );
        check(
            "[{type: Server, qps: 1, burst: 1, cacheSize: -1}]",
            "limits[0].cacheSize: Invalid value: -1: must not be negative",
        );
        check("[{type: Nobody, qps: 1, burst: 1}]", "Nobody");
    }
}
