//! Why an expression has no value.

use std::borrow::Cow;

/// `&&`, `||` and quantifiers pass over a plain error when the other side decides; the other errors end the evaluation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// Upstream's text.
    #[error("{0}")]
    Plain(Cow<'static, str>),
    /// One evaluation cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
    /// The request ended first.
    #[error("operation interrupted")]
    Cancelled,
}

impl EvalError {
    pub fn no_overload() -> Self {
        Self::Plain("no such overload".into())
    }

    pub fn no_key(key: impl std::fmt::Display) -> Self {
        Self::Plain(format!("no such key: {key}").into())
    }

    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Plain(text.into())
    }

    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }
}

pub type Eval<T> = Result<T, EvalError>;
