//! The parsed expression. Every node has an id of its own, counted from zero, by which later passes keep what they
//! find out, and the place in the text it came from.

use std::sync::Arc;

pub type Name = Arc<str>;

#[derive(Debug, Clone)]
pub struct Expr {
    pub id: u32,
    /// Place in the text, in characters.
    pub at: u32,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Name),
    Bytes(Arc<[u8]>),
}

#[derive(Debug, Clone)]
pub enum Kind {
    Literal(Literal),
    Ident(Name),
    Select {
        operand: Box<Expr>,
        field: Name,
        /// `has(operand.field)`.
        test: bool,
    },
    Call {
        target: Option<Box<Expr>>,
        function: Name,
        args: Vec<Expr>,
    },
    /// Elements; true for those written `?element`.
    List(Vec<(Expr, bool)>),
    Map(Vec<Entry>),
    Struct {
        name: Name,
        fields: Vec<Field>,
    },
    Comprehension(Box<Comprehension>),
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub name: Name,
    pub at: u32,
    pub value: Expr,
    pub optional: bool,
}

/// What all macros that iterate become, as in CEL's own definition.
#[derive(Debug, Clone)]
pub struct Comprehension {
    pub var: Name,
    /// The value beside the key, or the element beside the index.
    pub second: Option<Name>,
    pub range: Expr,
    pub accu: Name,
    pub init: Expr,
    pub condition: Expr,
    pub step: Expr,
    pub result: Expr,
}

/// The accumulator of macros; no expression can name it.
pub const ACCUMULATOR: &str = "@result";
/// The variable of a binding, which iterates over nothing.
pub const UNUSED: &str = "#unused";

impl Comprehension {
    /// True for what macros bind: the accumulator is the variable that is bound.
    pub fn is_bind(&self) -> bool {
        &*self.var == UNUSED
    }
}
