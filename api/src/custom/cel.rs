//! CEL rules of custom resources: `x-kubernetes-validations`.
//!
//! [`declare`] says what a schema lets a rule see, [`check`] is what a definition is told about its rules, and [`Rules`]
//! runs them. Must not know how definitions are stored or served.

use corten_cel::{Env, Program};
use serde_json::Value;
use std::sync::Arc;

mod check;
mod declare;
mod run;

pub use check::check;
pub use declare::declare;
pub use run::Rules;

/// The text of a member; empty for none or another type.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The rules of one place of a schema.
fn rules(schema: &Value) -> &[Value] {
    schema["x-kubernetes-validations"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

/// Elements of such a list can be told to be those of the list before.
fn is_keyed(schema: &Value) -> bool {
    schema["x-kubernetes-list-type"] == "map"
}

/// Members of such an object can be told to be those of the object before.
fn is_granular(schema: &Value) -> bool {
    schema["x-kubernetes-map-type"] != "atomic"
}

/// A rule's programs.
struct Compiled {
    rule: Result<Program, String>,
    /// `None` when there is none.
    message: Option<Result<Program, String>>,
}

/// The place of `oldSelf` among the variables.
const OLD_SELF: usize = 1;

impl Compiled {
    fn uses_old_self(&self) -> bool {
        self.rule.as_ref().is_ok_and(|program| program.uses[OLD_SELF])
    }
}

/// Compiles a rule at a place that is declared so.
fn compile(rule: &Value, decl: &Arc<corten_cel::Decl>) -> Compiled {
    let old = if rule["optionalOldSelf"] == true {
        Arc::new(corten_cel::Decl::of(corten_cel::Type::optional(decl.ty())))
    } else {
        decl.clone()
    };
    let env = Env::new([("self", decl.clone()), ("oldSelf", old)]);
    let made = |source: &str, ty: corten_cel::Type, prefix: &str, wrong: &str| match env.compile(source) {
        Err(error) => Err(format!("{prefix}{} failed: {error}", error.stage())),
        Ok(program) if program.ty != ty => Err(wrong.to_owned()),
        Ok(program) => Ok(program),
    };
    let message = text(&rule["messageExpression"]);
    Compiled {
        rule: made(
            text(&rule["rule"]),
            corten_cel::Type::Bool,
            "",
            "cel expression must evaluate to a bool",
        ),
        message: (!message.trim().is_empty()).then(|| {
            made(
                message,
                corten_cel::Type::String,
                "messageExpression ",
                "messageExpression must evaluate to a string",
            )
        }),
    }
}
