//! What admission is told about a request, and what it adds to the request's own transaction. Pure.

#![allow(
    dead_code,
    reason = "webhooks and policies, the first to read all of it, follow"
)]

use corten_api::options::DeleteOptions;
use corten_api::{FieldValidation, Status, meta};
use corten_store::{Op, Precondition};
use serde_json::{Value, json};

use super::super::{Decision, Env, Subject};
use crate::identity::User;

/// What a request does, as admission names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// The options a request came with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RequestOptions {
    /// A connection, or a write of the server's own.
    #[default]
    None,
    /// `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    Write {
        kind: &'static str,
        /// As the client gave it; empty if it gave none.
        field_manager: String,
        validation: FieldValidation,
        force: bool,
    },
    Delete(DeleteOptions),
}

impl RequestOptions {
    /// As webhooks and policies see them.
    #[must_use]
    pub fn to_value(&self, dry_run: bool) -> Value {
        let mut out = match self {
            RequestOptions::None => return Value::Null,
            RequestOptions::Write {
                kind,
                field_manager,
                validation,
                force,
            } => {
                let mut out = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
                if !field_manager.is_empty() {
                    out["fieldManager"] = field_manager.as_str().into();
                }
                out["fieldValidation"] = match validation {
                    FieldValidation::Ignore => "Ignore",
                    FieldValidation::Warn => "Warn",
                    FieldValidation::Strict => "Strict",
                }
                .into();
                if *force {
                    out["force"] = true.into();
                }
                out
            }
            RequestOptions::Delete(options) => options.to_value(),
        };
        if dry_run {
            out["dryRun"] = json!(["All"]);
        }
        out
    }
}

/// One request as admission sees it. The object itself travels beside: plug-ins that mutate change it.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    /// Type and namespace of the object, or of the object whose subresource is meant.
    pub subject: Subject<'a>,
    pub operation: Operation,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for a new object that asks for a generated name.
    pub name: &'a str,
    pub user: &'a User,
    /// The stored object (for `scale`: its Scale); `None` where there is none.
    pub old: Option<&'a Value>,
    pub options: &'a RequestOptions,
    pub dry_run: bool,
}

impl<'a> Attributes<'a> {
    /// Whether the object itself, of this group and plural, is meant.
    #[must_use]
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.subresource.is_empty() && self.subject.ty.group == group && self.subject.ty.plural == plural
    }

    /// `Forbidden` in upstream's words.
    #[must_use]
    pub fn forbidden(&self, why: impl Into<String>) -> Status {
        let named = self.old.filter(|_| self.name.is_empty()).map(meta::name);
        Status::forbidden(
            self.subject.ty.qualified(),
            named.unwrap_or(self.name),
            why.into(),
        )
    }
}

/// What admission adds to a write: it stands or falls with the write's own transaction.
#[derive(Debug, Default)]
pub struct Effects {
    pub preconditions: Vec<Precondition>,
    pub ops: Vec<Op>,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
    /// Keys and values for the request's audit record.
    pub annotations: Vec<(String, String)>,
}

impl Decision {
    /// The same decision with what admission adds. A decision that writes nothing only takes the texts.
    #[must_use]
    pub fn with(mut self, effects: Effects, env: &mut Env) -> Decision {
        let answer = match &mut self {
            Decision::Commit(txn, answer) => {
                txn.preconditions.extend(effects.preconditions);
                txn.ops.extend(effects.ops);
                answer
            }
            Decision::Nothing(answer) => answer,
            Decision::Ask(_) => return self,
        };
        answer.warnings.append(&mut env.warnings);
        answer.warnings.extend(effects.warnings);
        env.annotations.extend(effects.annotations);
        self
    }
}
