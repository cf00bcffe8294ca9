//! `pods/binding`: a Pod gets its node, once, in one transaction. Pure.
//!
//! What a Binding does to a Pod is [`binding::assign`]'s to say.

use corten_api::Status;
use corten_api::kinds::core::binding;
use corten_store::{Op, Snapshot};
use http::StatusCode;
use serde_json::Value;

use super::admission::{self, Attributes, Effects, Operation};
use super::{Answered, Decision, Env, Payload, Subject};

/// # Errors
/// `NotFound`; `Conflict` when the Pod has a node or is being deleted; `Invalid` for a target that is no Node.
pub fn decide(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    binding: &Value,
    env: &mut Env,
) -> Result<Decision, Status> {
    let asker = env.asker.clone();
    let attributes = Attributes {
        subresource: "binding",
        ..asker.attributes(subject, Operation::Create, name)
    };
    let mut binding = binding.clone();
    if let Some(question) = admission::mutate(&attributes, snapshot, &mut binding, env)? {
        return Ok(Decision::Ask(question));
    }
    let current = subject.read(snapshot, name)?;
    let mut effects = Effects::default();
    if let Some(question) = admission::validate(&attributes, snapshot, &binding, &mut effects, env)? {
        return Ok(Decision::Ask(question));
    }
    let mut pod = current.value.clone();
    binding::assign(&mut pod, &binding, env.now)?;
    let ops = vec![Op::Put {
        key: current.key.clone(),
        value: subject.encode(&pod),
    }];
    let answer = Answered {
        code: StatusCode::CREATED,
        payload: Payload::Status(Status::created()),
        warnings: Vec::new(),
    };
    Ok(Decision::commit(vec![current.unchanged()], ops, answer).with(effects, env))
}
