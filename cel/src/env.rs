//! What an expression may name: variables with their declarations, and types it may make objects of.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::check;
use crate::opaque;
use crate::parser;
use crate::plan;
use crate::program::Program;
use crate::source::CompileError;
use crate::types::{Decl, Object, Type};

/// Declared variables. Cheap to clone; compiled programs do not keep it.
#[derive(Debug, Clone, Default)]
pub struct Env {
    pub(crate) variables: Vec<(Arc<str>, Arc<Decl>)>,
    constructors: bool,
}

/// The types that can be named, by their names.
static NAMED: LazyLock<HashMap<&'static str, Type>> = LazyLock::new(|| {
    let mut all = HashMap::from([
        ("bool", Type::Bool),
        ("bytes", Type::Bytes),
        ("double", Type::Double),
        ("google.protobuf.Duration", Type::Duration),
        ("google.protobuf.Timestamp", Type::Timestamp),
        ("int", Type::Int),
        ("list", Type::list(Type::Dyn)),
        ("map", Type::map(Type::Dyn, Type::Dyn)),
        ("null_type", Type::Null),
        ("optional_type", Type::optional(Type::Dyn)),
        ("string", Type::String),
        ("type", Type::Type(Arc::new(Type::Dyn))),
        ("uint", Type::Uint),
    ]);
    for name in opaque::NAMES {
        all.insert(name, Type::Opaque(name));
    }
    all
});

impl Env {
    /// Variables in the order in which [`crate::Bindings`] gives their values. A name may have dots.
    pub fn new<N: Into<Arc<str>>>(variables: impl IntoIterator<Item = (N, Arc<Decl>)>) -> Env {
        Env {
            variables: variables
                .into_iter()
                .map(|(name, decl)| (name.into(), decl))
                .collect(),
            constructors: false,
        }
    }

    /// Allows `Object{...}`, `Object.spec{...}` and `JSONPatch{...}`, which mutations are made of.
    #[must_use]
    pub fn with_constructors(mut self) -> Env {
        self.constructors = true;
        self
    }

    pub(crate) fn makes_patches(&self) -> bool {
        self.constructors
    }

    /// Adds a variable behind the others.
    #[must_use]
    pub fn with(mut self, name: impl Into<Arc<str>>, decl: Arc<Decl>) -> Env {
        self.variables.push((name.into(), decl));
        self
    }

    /// The place of a variable.
    pub fn variable(&self, name: &str) -> Option<usize> {
        self.variables.iter().rposition(|(own, _)| **own == *name)
    }

    pub(crate) fn named_type(&self, name: &str) -> Option<Type> {
        NAMED.get(name).cloned()
    }

    /// The type of an object that an expression makes.
    pub(crate) fn constructed(&self, name: &str) -> Option<Arc<Object>> {
        if !self.constructors {
            return None;
        }
        if name == JSON_PATCH {
            return Some(json_patch());
        }
        (name == OBJECT || name.starts_with("Object.")).then(|| {
            Arc::new(Object {
                name: name.to_owned(),
                open: true,
                ..Object::default()
            })
        })
    }

    /// Parses, checks and prepares an expression.
    ///
    /// # Errors
    /// All that is wrong with it, in upstream's form.
    pub fn compile(&self, source: &str) -> Result<Program, CompileError> {
        let parsed = parser::parse(source)?;
        let checked = check::check(self, &parsed).map_err(|issues| CompileError::new(source, issues))?;
        plan::plan(self, &parsed, &checked).map_err(CompileError::of_constant)
    }
}

/// The type of a change, for mutations.
pub const OBJECT: &str = "Object";
/// The type of an operation of a JSON patch, for mutations.
pub const JSON_PATCH: &str = "JSONPatch";

/// `JSONPatch{op, path, from, value}`.
fn json_patch() -> Arc<Object> {
    let field = |name: &str, ty: Type| {
        let decl = Arc::new(Decl::of(ty));
        (
            name.to_owned(),
            crate::types::Field {
                json: name.into(),
                decl,
            },
        )
    };
    Arc::new(Object {
        name: JSON_PATCH.to_owned(),
        fields: [
            field("op", Type::String),
            field("path", Type::String),
            field("from", Type::String),
            field("value", Type::Dyn),
        ]
        .into(),
        open: false,
    })
}
