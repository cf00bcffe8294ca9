//! The Common Expression Language as Kubernetes 1.36 speaks it: parser, type checker, cost estimate, evaluator, and the
//! libraries of the API server. Pure.
//!
//! Knows expressions, types, values and cost; must not know which objects there are, how they are stored, or who asks.
//! Also holds what both expressions and objects are made of: quantities and the rules for names.
//!
//! ```
//! use corten_cel::{Bindings, Decl, Env, Limits, Value};
//!
//! let env = Env::new([("object", Decl::DYN.into())]);
//! let program = env.compile("object.spec.replicas <= 5").unwrap();
//! let object = serde_json::json!({"spec": {"replicas": 3}});
//! let bindings = Bindings::new(vec![Some(Value::dynamic(&object))]);
//! let (value, cost) = program.eval(&bindings, Limits::default());
//! assert!(matches!(value, Ok(Value::Bool(true))));
//! assert_eq!(cost, 4);
//! ```

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod ast;
mod authorizer;
mod check;
mod cost;
mod env;
mod error;
mod escape;
mod lexer;
mod library;
mod macros;
pub mod names;
mod opaque;
mod parser;
mod plan;
mod program;
pub mod quantity;
mod source;
mod time;
mod types;
mod unify;
mod value;

pub use authorizer::{Authorize, Check, Decision, Subject};
pub use cost::Estimate;
pub use env::{Env, JSON_PATCH, OBJECT};
pub use error::{Eval, EvalError};
pub use escape::escape;
pub use opaque::Opaque;
pub use parser::is_reserved;
pub use program::{Bindings, Limits, PER_CALL_LIMIT, Program, RUNTIME_BUDGET};
pub use source::{CompileError, Issue};
pub use types::{Decl, Field, ListKind, Object, Shape, Type, UNBOUNDED};
pub use value::{Fields, Key, List, Map, Str, Value};
