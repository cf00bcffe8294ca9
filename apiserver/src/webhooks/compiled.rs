//! What the stored configurations of admission say, compiled once for each state of them.
//!
//! A set is a function of a snapshot: a decision sees exactly the configurations that stand in the state it decides on.
//! Where none is stored this costs one look into the tree.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_api::kinds::admissionregistration::expressions;
use corten_api::{meta, registry};
use corten_store::{Entry, Revision, Snapshot};
use parking_lot::RwLock;
use serde_json::Value;

use super::rules::Constraints;
use crate::key::prefix_range;
use crate::outbound::Target;
use crate::policies::Bound;
use crate::policies::compiled::{Binding, Policy};
use crate::policies::evaluate::Conditions;
use crate::write::Subject;

const GROUP: &str = "admissionregistration.k8s.io";
/// Default of `timeoutSeconds`. Source: MutatingWebhook v1 API reference.
const DEFAULT_TIMEOUT_SECONDS: u64 = 10;

/// The label of a configuration whose webhooks see what is in Secrets, also in a server that hides it.
const SEES_SECRETS: &str = "corten.dev/sees-secrets";

/// One webhook of a configuration.
#[derive(Debug)]
pub struct Webhook {
    pub name: String,
    pub configuration: String,
    /// Names the webhook among all, and its configuration's state.
    pub id: String,
    pub constraints: Constraints,
    pub conditions: Conditions,
    /// `Err`: why it can never be called.
    pub target: Result<Arc<Target>, String>,
    pub timeout: Duration,
    /// The version of AdmissionReview it is sent.
    pub version: &'static str,
    pub fails_open: bool,
    pub has_side_effects: bool,
    pub reinvoked: bool,
    /// Its configuration lets it see what is in Secrets where others may not.
    pub sees_secrets: bool,
}

impl Webhook {
    fn of(configuration: &Value, index: usize, hook: &Value) -> Webhook {
        let name = hook["name"].as_str().unwrap_or_default().to_owned();
        let asks = hook["admissionReviewVersions"].as_array().into_iter().flatten();
        let version = asks
            .filter_map(|version| match version.as_str() {
                Some("v1") => Some("v1"),
                Some("v1beta1") => Some("v1beta1"),
                _ => None,
            })
            .next();
        let target = match version {
            Some(_) => Target::of_client_config(&hook["clientConfig"]).map(Arc::new),
            None => Err("webhook does not accept known AdmissionReview versions (v1, v1beta1)".into()),
        };
        let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        let own = meta::name(configuration);
        Webhook {
            id: format!("{own}/{name}/{index}@{}", meta::resource_version(configuration)),
            configuration: own.to_owned(),
            constraints: Constraints::of_webhook(hook),
            conditions: Conditions::new(&expressions::environment(false, true), &hook["matchConditions"]),
            target,
            timeout: Duration::from_secs(seconds),
            version: version.unwrap_or("v1"),
            fails_open: hook["failurePolicy"] == "Ignore",
            has_side_effects: !matches!(hook["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")),
            reinvoked: hook["reinvocationPolicy"] == "IfNeeded",
            sees_secrets: meta::label(configuration, SEES_SECRETS) == Some("true"),
            name,
        }
    }
}

/// One stored object of the group.
enum Item {
    Webhooks {
        mutating: bool,
        hooks: Vec<Arc<Webhook>>,
    },
    Policy(bool, Arc<Policy>),
    Binding(bool, Arc<Binding>),
    /// Damaged or unreadable: nothing is decided by it, and the log says so.
    Nothing,
}

/// Everything configured, in the order it is asked: by configuration's name, then as listed.
#[derive(Default)]
pub struct Hooks {
    pub mutating: Vec<Arc<Webhook>>,
    pub validating: Vec<Arc<Webhook>>,
    pub mutating_policies: Vec<Bound>,
    pub validating_policies: Vec<Bound>,
    items: HashMap<Bytes, (Revision, Arc<Item>)>,
}

/// How many objects there are, and the newest of their revisions: no two states of the group have the same.
type Mark = (usize, Revision);

/// The set that was asked for last.
#[derive(Default)]
pub struct Cache(RwLock<(Mark, Option<Arc<Hooks>>)>);

impl Cache {
    /// What is configured in this state; `None`: nothing.
    pub fn at(&self, snapshot: &Snapshot) -> Option<Arc<Hooks>> {
        let range = prefix_range(&format!("/{GROUP}/"));
        let mut mark: Mark = (0, Revision(0));
        for entry in snapshot.range(range.clone()) {
            mark = (mark.0 + 1, mark.1.max(entry.mod_revision));
        }
        if mark.0 == 0 {
            return None;
        }
        let known = self.0.read().clone();
        if let (own, Some(hooks)) = &known
            && *own == mark
        {
            return Some(hooks.clone());
        }
        let hooks = Arc::new(Hooks::of(known.1.as_deref(), snapshot.range(range)));
        *self.0.write() = (mark, Some(hooks.clone()));
        Some(hooks)
    }
}

impl Hooks {
    /// What has not changed is taken over from `before`.
    fn of(before: Option<&Hooks>, entries: impl Iterator<Item = Arc<Entry>>) -> Hooks {
        let mut hooks = Hooks::default();
        let (mut policies, mut bindings) = (Vec::new(), Vec::new());
        for entry in entries {
            let known = before.and_then(|before| before.items.get(&entry.key));
            let item = match known {
                Some((revision, item)) if *revision == entry.mod_revision => item.clone(),
                _ => Arc::new(compile(&entry)),
            };
            match &*item {
                Item::Webhooks { mutating, hooks: own } => {
                    let list = if *mutating {
                        &mut hooks.mutating
                    } else {
                        &mut hooks.validating
                    };
                    list.extend(own.iter().cloned());
                }
                Item::Policy(mutating, policy) => policies.push((*mutating, policy.clone())),
                Item::Binding(mutating, binding) => bindings.push((*mutating, binding.clone())),
                Item::Nothing => {}
            }
            hooks.items.insert(entry.key.clone(), (entry.mod_revision, item));
        }
        for (mutating, policy) in policies {
            let own =
                |(of, binding): &&(bool, Arc<Binding>)| *of == mutating && binding.policy == policy.name;
            let bindings: Vec<Arc<Binding>> = bindings
                .iter()
                .filter(own)
                .map(|(_, binding)| binding.clone())
                .collect();
            if bindings.is_empty() {
                continue; // nothing puts it into force
            }
            let list = match mutating {
                true => &mut hooks.mutating_policies,
                false => &mut hooks.validating_policies,
            };
            list.push(Bound { policy, bindings });
        }
        hooks
    }
}

fn compile(entry: &Entry) -> Item {
    let plural = std::str::from_utf8(&entry.key)
        .unwrap_or_default()
        .split('/')
        .nth(2);
    let Some(ty) = registry().lookup(GROUP, "v1", plural.unwrap_or_default()) else {
        return Item::Nothing;
    };
    let object = match (Subject { ty, namespace: "" }).parse(entry) {
        Ok(object) => object,
        Err(error) => {
            tracing::error!(%error, "a stored configuration of admission is damaged");
            return Item::Nothing;
        }
    };
    match &*ty.plural {
        "mutatingwebhookconfigurations" => webhooks(&object, true),
        "validatingwebhookconfigurations" => webhooks(&object, false),
        "mutatingadmissionpolicies" => Item::Policy(true, Arc::new(Policy::of(&object, true))),
        "validatingadmissionpolicies" => Item::Policy(false, Arc::new(Policy::of(&object, false))),
        "mutatingadmissionpolicybindings" => Item::Binding(true, Arc::new(Binding::of(&object))),
        "validatingadmissionpolicybindings" => Item::Binding(false, Arc::new(Binding::of(&object))),
        _ => Item::Nothing,
    }
}

fn webhooks(object: &Value, mutating: bool) -> Item {
    let all = object["webhooks"].as_array().into_iter().flatten().enumerate();
    let hooks = all
        .map(|(index, hook)| Arc::new(Webhook::of(object, index, hook)))
        .collect();
    Item::Webhooks { mutating, hooks }
}
