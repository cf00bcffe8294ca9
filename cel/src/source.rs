//! What is wrong with an expression, with the place shown as upstream shows it.

use std::fmt;

use crate::error::EvalError;

/// One error: a place in characters and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    pub at: u32,
    pub text: String,
}

/// All that is wrong with an expression. Its text is upstream's, one paragraph per error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// In the order of their places.
    pub issues: Vec<Issue>,
    source: String,
    /// Or: what a constant in it cannot be made into. It has no place.
    constant: Option<String>,
}

/// Errors beyond these are not kept.
const MAX_ISSUES: usize = 100;

impl CompileError {
    pub fn new(source: &str, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| issue.at);
        issues.truncate(MAX_ISSUES);
        Self {
            issues,
            source: source.to_owned(),
            constant: None,
        }
    }

    /// The expression is right and can never be evaluated: a constant in it cannot be converted.
    pub(crate) fn of_constant(error: EvalError) -> Self {
        Self {
            issues: Vec::new(),
            source: String::new(),
            constant: Some(error.to_string()),
        }
    }

    /// What upstream says has failed.
    #[must_use]
    pub fn stage(&self) -> &'static str {
        match self.constant {
            None => "compilation",
            Some(_) => "program instantiation",
        }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = &self.constant {
            return f.write_str(text);
        }
        for (idx, issue) in self.issues.iter().enumerate() {
            if idx > 0 {
                f.write_str("\n")?;
            }
            let (line, column, text) = place(&self.source, issue.at);
            write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, issue.text)?;
            if let Some(text) = text {
                let dots: String = text
                    .chars()
                    .take(column)
                    .map(|c| {
                        if c.is_ascii() || c < '\u{1100}' {
                            '.'
                        } else {
                            '\u{ff0e}'
                        }
                    })
                    .collect();
                let mark = match text.chars().nth(column) {
                    Some(c) if c >= '\u{1100}' => '\u{ff3e}',
                    _ => '^',
                };
                write!(f, "\n | {text}\n | {dots}{mark}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for CompileError {}

/// Line from one, column from zero, and the line's text with tabs as spaces.
fn place(source: &str, at: u32) -> (usize, usize, Option<String>) {
    let mut rest = at as usize;
    for (idx, line) in source.split('\n').enumerate() {
        let length = line.chars().count();
        if rest <= length {
            return (idx + 1, rest, Some(line.replace('\t', " ")));
        }
        rest -= length + 1;
    }
    (source.split('\n').count(), rest, None)
}
