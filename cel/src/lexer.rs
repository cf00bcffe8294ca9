//! Text to tokens, by CEL's lexical rules.

use std::sync::Arc;

use crate::ast::Literal;
use crate::source::Issue;

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Ident(String),
    Literal(Literal),
    /// Operators and brackets, `in` too.
    Op(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub struct Spanned {
    pub token: Token,
    /// In characters.
    pub at: u32,
    pub text: String,
}

const OPERATORS: [&str; 29] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}", "=", "&", "|", "@", "#",
];

/// All tokens, the last one `End`.
///
/// # Errors
/// Characters and literals that are none of CEL's.
pub fn lex(source: &str) -> Result<Vec<Spanned>, Vec<Issue>> {
    let mut lexer = Lexer {
        chars: source.chars().collect(),
        at: 0,
        tokens: Vec::new(),
        issues: Vec::new(),
    };
    lexer.run();
    if lexer.issues.is_empty() {
        Ok(lexer.tokens)
    } else {
        Err(lexer.issues)
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    tokens: Vec<Spanned>,
    issues: Vec<Issue>,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn issue(&mut self, at: usize, text: String) {
        self.issues.push(Issue { at: at as u32, text });
    }

    fn push(&mut self, start: usize, token: Token) {
        let text = self.chars[start..self.at].iter().collect();
        self.tokens.push(Spanned {
            token,
            at: start as u32,
            text,
        });
    }

    fn run(&mut self) {
        while self.at < self.chars.len() {
            let (start, c) = (self.at, self.peek(0));
            match c {
                ' ' | '\t' | '\n' | '\r' | '\u{c}' => self.at += 1,
                '/' if self.peek(1) == '/' => {
                    while self.at < self.chars.len() && self.peek(0) != '\n' {
                        self.at += 1;
                    }
                }
                '0'..='9' => self.number(),
                '.' if self.peek(1).is_ascii_digit() => self.number(),
                '"' | '\'' => self.string(start),
                _ if self.at_prefixed_string() => self.string(start),
                'a'..='z' | 'A'..='Z' | '_' => self.word(),
                _ => self.operator(),
            }
        }
        self.push(self.chars.len(), Token::End);
    }

    /// `r""`, `b""`, `rb""` and the like.
    fn at_prefixed_string(&self) -> bool {
        let mut ahead = 0;
        while ahead < 2 && matches!(self.peek(ahead), 'r' | 'R' | 'b' | 'B') {
            ahead += 1;
        }
        ahead > 0 && matches!(self.peek(ahead), '"' | '\'')
    }

    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
            self.at += 1;
        }
        let word: String = self.chars[start..self.at].iter().collect();
        let token = match word.as_str() {
            "true" => Token::Literal(Literal::Bool(true)),
            "false" => Token::Literal(Literal::Bool(false)),
            "null" => Token::Literal(Literal::Null),
            "in" => Token::Op("in"),
            _ => Token::Ident(word),
        };
        self.push(start, token);
    }

    fn operator(&mut self) {
        let start = self.at;
        let found = OPERATORS
            .iter()
            .find(|op| op.chars().enumerate().all(|(idx, c)| self.peek(idx) == c));
        match found {
            Some(op) if !matches!(*op, "=" | "&" | "|" | "@" | "#") => {
                self.at += op.len();
                self.push(start, Token::Op(op));
            }
            _ => {
                let bad = self.peek(0);
                self.at += 1;
                // A lone `=` or `&` is shown with what follows, as the lexer upstream had hoped for more.
                let next = self.peek(0);
                let shown = match bad {
                    '=' | '&' | '|' if next != '\0' => format!("{bad}{next}"),
                    _ => bad.to_string(),
                };
                self.issue(
                    start,
                    format!("Syntax error: token recognition error at: '{shown}'"),
                );
            }
        }
    }

    fn number(&mut self) {
        let start = self.at;
        if self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X') && self.peek(2).is_ascii_hexdigit() {
            self.at += 2;
            while self.peek(0).is_ascii_hexdigit() {
                self.at += 1;
            }
            let digits: String = self.chars[start + 2..self.at].iter().collect();
            return self.whole(start, &digits, 16);
        }
        let mut double = false;
        while self.peek(0).is_ascii_digit() {
            self.at += 1;
        }
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            double = true;
            self.at += 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        if matches!(self.peek(0), 'e' | 'E') {
            let sign = usize::from(matches!(self.peek(1), '+' | '-'));
            if self.peek(1 + sign).is_ascii_digit() {
                double = true;
                self.at += 1 + sign;
                while self.peek(0).is_ascii_digit() {
                    self.at += 1;
                }
            }
        }
        let digits: String = self.chars[start..self.at].iter().collect();
        if double {
            match digits.parse::<f64>() {
                Ok(value) if value.is_finite() => self.push(start, Token::Literal(Literal::Double(value))),
                _ => self.issue(start, "invalid double literal".into()),
            }
        } else {
            self.whole(start, &digits, 10);
        }
    }

    fn whole(&mut self, start: usize, digits: &str, radix: u32) {
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            match u64::from_str_radix(digits, radix) {
                Ok(value) => self.push(start, Token::Literal(Literal::Uint(value))),
                Err(_) => self.issue(start, "invalid uint literal".into()),
            }
            return;
        }
        match u64::from_str_radix(digits, radix) {
            Ok(value) if value <= i64::MAX as u64 => {
                self.push(start, Token::Literal(Literal::Int(value as i64)));
            }
            // Only right behind a minus sign; the parser takes care of both.
            Ok(value) if value == 1 << 63 => self.push(start, Token::Literal(Literal::Int(i64::MIN))),
            _ => self.issue(start, "invalid int literal".into()),
        }
    }

    fn string(&mut self, start: usize) {
        let (mut raw, mut bytes) = (false, false);
        loop {
            match self.peek(0) {
                'r' | 'R' => raw = true,
                'b' | 'B' => bytes = true,
                _ => break,
            }
            self.at += 1;
        }
        let quote = self.peek(0);
        let long = self.peek(1) == quote && self.peek(2) == quote;
        let width = if long { 3 } else { 1 };
        self.at += width;
        let mut out = Text::default();
        loop {
            let c = self.peek(0);
            if self.at >= self.chars.len() || (!long && matches!(c, '\n' | '\r')) {
                let shown: String = self.chars[start..self.at].iter().collect();
                self.issue(
                    start,
                    format!("Syntax error: token recognition error at: '{shown}'"),
                );
                return;
            }
            if c == quote && (!long || (self.peek(1) == quote && self.peek(2) == quote)) {
                self.at += width;
                break;
            }
            if c == '\\' && !raw {
                if !self.escape(bytes, &mut out) {
                    let shown: String = self.chars[start..self.at.min(self.chars.len())].iter().collect();
                    self.issue(
                        start,
                        format!("Syntax error: token recognition error at: '{shown}'"),
                    );
                    return;
                }
                continue;
            }
            if c == '\\' && raw {
                // A raw string keeps its backslashes, also the one that guards a quote.
                out.char(c);
                self.at += 1;
                if self.peek(0) == quote || self.peek(0) == '\\' {
                    out.char(self.peek(0));
                    self.at += 1;
                }
                continue;
            }
            out.char(c);
            self.at += 1;
        }
        let literal = if bytes {
            Literal::Bytes(Arc::from(out.0))
        } else {
            match String::from_utf8(out.0) {
                Ok(text) => Literal::String(text.into()),
                Err(_) => return self.issue(start, "invalid string literal".into()),
            }
        };
        self.push(start, Token::Literal(literal));
    }

    /// One escape, at its backslash. False when it is none.
    fn escape(&mut self, bytes: bool, out: &mut Text) -> bool {
        let kind = self.peek(1);
        self.at = (self.at + 2).min(self.chars.len());
        let simple = match kind {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '`' | '?' => kind,
            'x' | 'X' => return self.code(16, 2, bytes, out),
            'u' if !bytes => return self.code(16, 4, false, out),
            'U' if !bytes => return self.code(16, 8, false, out),
            '0'..='3' => {
                self.at -= 1;
                return self.code(8, 3, bytes, out);
            }
            _ => return false,
        };
        out.char(simple);
        true
    }

    fn code(&mut self, radix: u32, digits: usize, byte: bool, out: &mut Text) -> bool {
        let mut value = 0u32;
        for _ in 0..digits {
            let Some(digit) = self.peek(0).to_digit(radix) else {
                return false;
            };
            value = value.wrapping_mul(radix).wrapping_add(digit);
            self.at += 1;
        }
        if byte {
            out.0.push(value as u8);
            return true;
        }
        char::from_u32(value).map(|c| out.char(c)).is_some()
    }
}

#[derive(Default)]
struct Text(Vec<u8>);

impl Text {
    fn char(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.0.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
    }
}
