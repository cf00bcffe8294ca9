//! Types as the checker knows them, and declarations: types with the bounds a schema gives, by which JSON is viewed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::escape::escaped_word;

/// A type. `Param` is one that is not known yet.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Dyn,
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    Optional(Arc<Type>),
    /// The type of a type.
    Type(Arc<Type>),
    Object(Arc<Object>),
    /// Types of Kubernetes' libraries, by name.
    Opaque(&'static str),
    Param(u32),
}

impl Type {
    pub fn list(of: Type) -> Type {
        Type::List(Arc::new(of))
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    pub fn optional(of: Type) -> Type {
        Type::Optional(Arc::new(of))
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// True for types whose values all have size one.
    pub fn is_scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
            Type::Optional(of) => of.is_scalar(),
            _ => false,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Type::Dyn => "dyn",
            Type::Error => "!error!",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Timestamp => "timestamp",
            Type::Duration => "duration",
            Type::List(of) => return write!(f, "list({of})"),
            Type::Map(of) => return write!(f, "map({}, {})", of.0, of.1),
            Type::Optional(of) => return write!(f, "optional_type({of})"),
            Type::Type(of) => return write!(f, "type({of})"),
            Type::Object(object) => &object.name,
            Type::Opaque(name) => name,
            Type::Param(number) => return write!(f, "_var{number}"),
        };
        f.write_str(word)
    }
}

/// An object with named fields.
#[derive(Debug, Default)]
pub struct Object {
    /// Two objects of one name are one type.
    pub name: String,
    /// By the name an expression uses, which escapes what is no identifier.
    pub fields: BTreeMap<String, Field>,
    /// Any field may be read or set, each of any type.
    pub open: bool,
}

#[derive(Debug, Clone)]
pub struct Field {
    /// The member of the JSON object.
    pub json: Arc<str>,
    pub decl: Arc<Decl>,
}

impl Object {
    /// The field an expression selects. `self.namespace` is `self.__namespace__`, unless a field has that very name.
    /// Source: `DeclTypeProvider.FindStructFieldType` since Kubernetes 1.31.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let escaped = || self.fields.get(&escaped_word(name)?);
        self.fields.get(name).or_else(escaped)
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// No bound is known.
pub const UNBOUNDED: u64 = i64::MAX as u64;

/// How two lists are compared and added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListKind {
    #[default]
    Plain,
    /// `x-kubernetes-list-type: set`.
    Set,
    /// `x-kubernetes-list-type: map`.
    Keyed,
}

/// What is known of a value before there is one.
#[derive(Debug, Default)]
pub struct Decl {
    pub shape: Shape,
    /// Most characters, elements or entries.
    pub max_elements: u64,
    /// Fewest bytes in JSON.
    pub min_size: u64,
    pub nullable: bool,
}

#[derive(Debug, Default)]
pub enum Shape {
    #[default]
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    String,
    /// Base64 in JSON.
    Bytes,
    Timestamp,
    Duration,
    List {
        of: Arc<Decl>,
        kind: ListKind,
        /// Of a keyed list, as JSON names them.
        keys: Vec<String>,
    },
    /// Keys are strings.
    Map {
        of: Arc<Decl>,
        key: Arc<Decl>,
    },
    Object(Arc<Object>),
    /// Given by the host, not as JSON.
    Host(Type),
}

impl Decl {
    pub const DYN: Decl = Decl {
        shape: Shape::Dyn,
        max_elements: UNBOUNDED,
        min_size: 1,
        nullable: true,
    };

    pub fn new(shape: Shape, max_elements: u64, min_size: u64) -> Decl {
        Decl {
            shape,
            max_elements,
            min_size,
            nullable: false,
        }
    }

    /// A declaration without bounds; containers hold anything of their kind.
    pub fn of(ty: Type) -> Decl {
        let shape = match ty {
            Type::Dyn | Type::Error | Type::Null | Type::Param(_) => return Decl { ..Decl::DYN },
            Type::Bool => Shape::Bool,
            Type::Int => Shape::Int,
            Type::Uint => Shape::Uint,
            Type::Double => Shape::Double,
            Type::String => Shape::String,
            Type::Bytes => Shape::Bytes,
            Type::Timestamp => Shape::Timestamp,
            Type::Duration => Shape::Duration,
            Type::List(of) => Shape::List {
                of: Arc::new(Decl::of((*of).clone())),
                kind: ListKind::Plain,
                keys: Vec::new(),
            },
            Type::Map(of) => Shape::Map {
                key: Arc::new(Decl::of(of.0.clone())),
                of: Arc::new(Decl::of(of.1.clone())),
            },
            Type::Object(object) => Shape::Object(object),
            other => Shape::Host(other),
        };
        Decl::new(shape, UNBOUNDED, 1)
    }

    pub fn ty(&self) -> Type {
        match &self.shape {
            Shape::Dyn => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Uint => Type::Uint,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Timestamp => Type::Timestamp,
            Shape::Duration => Type::Duration,
            Shape::List { of, .. } => Type::list(of.ty()),
            Shape::Map { of, key } => Type::map(key.ty(), of.ty()),
            Shape::Object(object) => Type::Object(object.clone()),
            Shape::Host(ty) => ty.clone(),
        }
    }

    /// What lies one step further: a field, `@items`, `@values`, `@keys`.
    pub fn step(&self, name: &str) -> Option<&Arc<Decl>> {
        match (&self.shape, name) {
            (Shape::List { of, .. }, "@items") | (Shape::Map { of, .. }, "@values") => Some(of),
            (Shape::Map { key, .. }, "@keys") => Some(key),
            (Shape::Object(object), _) => object.field(name).map(|field| &field.decl),
            _ => None,
        }
    }
}
