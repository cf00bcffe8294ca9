//! Whether the expressions of policies and match conditions compile, and make what is asked of them.
//!
//! Source: `apiserver/pkg/admission/plugin/cel/compile.go`; texts as upstream's validation words them.

use corten_cel::{Env, JSON_PATCH, OBJECT, Type};

use super::expressions::{MAX_VARIABLES, environment, with_variables};
use crate::cursor::At;
use crate::field::FieldErrors;

/// What an expression has to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Makes {
    Bool,
    Text,
    TextOrNull,
    /// `Object{...}`.
    Change,
    /// A list of `JSONPatch{...}`.
    Patch,
}

impl Makes {
    /// What is wrong with the type that an expression has.
    fn refuses(self, found: &Type) -> Option<String> {
        let is_object = |ty: &Type, wanted: &str| matches!(ty, Type::Object(object) if object.name == wanted);
        let (fits, wanted) = match self {
            Makes::Bool => (*found == Type::Bool, "bool"),
            Makes::Text => (*found == Type::String, "string"),
            Makes::TextOrNull => (
                matches!(found, Type::String | Type::Null),
                "one of [string null_type]",
            ),
            Makes::Change => (is_object(found, OBJECT), "Object"),
            Makes::Patch => (
                matches!(found, Type::List(of) if is_object(of, JSON_PATCH)),
                "list(JSONPatch)",
            ),
        };
        let found = match found {
            Type::Null => "null_type".to_owned(),
            other => other.to_string(),
        };
        (!fits).then(|| format!("must evaluate to {wanted} but got {found}"))
    }
}

/// What the expressions of one policy or webhook may name.
pub struct Scope {
    params: bool,
    /// `None`: there is nothing called `variables`.
    variables: Option<Vec<(String, Type)>>,
}

impl Scope {
    pub fn new(params: bool, variables: bool) -> Scope {
        Scope {
            params,
            variables: variables.then(Vec::new),
        }
    }

    fn env(&self, makes: Option<Makes>) -> Env {
        // A message may not depend on what somebody may do.
        let env = environment(self.params, makes != Some(Makes::Text));
        let env = match makes {
            Some(Makes::Change | Makes::Patch) => env.with_constructors(),
            _ => env,
        };
        match &self.variables {
            Some(known) => with_variables(&env, known),
            None => env,
        }
    }

    /// Refuses an expression that does not compile, or makes something else.
    pub fn check(
        &self,
        at: &At<'_>,
        field: &'static str,
        source: &str,
        makes: Makes,
        errors: &mut FieldErrors,
    ) {
        let wrong = match self.env(Some(makes)).compile(source) {
            Err(error) => Some(format!("{} failed: {error}", error.stage())),
            Ok(program) => makes.refuses(&program.ty),
        };
        if let Some(detail) = wrong {
            errors.invalid(at.path(field), source, &detail);
        }
    }

    /// Compiles a variable's `expression`, and lets what comes after it name the variable.
    pub fn define(&mut self, at: &At<'_>, errors: &mut FieldErrors) {
        let source = at.str("expression");
        let ty = match self.env(None).compile(source) {
            Err(error) => {
                errors.invalid(
                    at.path("expression"),
                    source,
                    &format!("{} failed: {error}", error.stage()),
                );
                Type::Dyn
            }
            Ok(program) => program.ty.clone(),
        };
        if let Some(known) = &mut self.variables
            && known.len() < MAX_VARIABLES
        {
            known.push((at.str("name").to_owned(), ty));
        }
    }
}
