//! What can be wrong with a body, in the words of Go's JSON decoder.

/// Why a body could not be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    #[error("unexpected end of JSON input")]
    End,
    #[error("invalid character {} {context}", quote(*.found))]
    Character { found: char, context: String },
    #[error("exceeded max depth")]
    Depth,
}

fn quote(c: char) -> String {
    match c {
        '\'' => "'\\''".into(),
        '"' => "'\"'".into(),
        c => {
            let quoted = crate::field::quoted(&c.to_string());
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}
