//! Tokens to expression, by precedence; calls that are macros are expanded on the way.

use crate::ast::{Entry, Expr, Field, Kind, Literal, Name};
use crate::lexer::{Spanned, Token, lex};
use crate::macros;
use crate::source::{CompileError, Issue};

/// Longest expression, in characters, as upstream.
pub const MAX_CHARACTERS: usize = 100_000;
/// Deepest expression, what macros add included.
pub const MAX_DEPTH: u32 = 200;
/// Most nodes, what macros add included: some copy their receiver.
pub const MAX_NODES: usize = 200_000;

const RESERVED: [&str; 19] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
];
const RESERVED_TOO: [&str; 2] = ["void", "while"];
const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// True for words that no variable may be called.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word) || RESERVED_TOO.contains(&word)
}

/// A parsed expression and how many ids it has.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub expr: Expr,
    pub ids: u32,
}

/// # Errors
/// Upstream's texts for what is no expression.
pub fn parse(source: &str) -> Result<Parsed, CompileError> {
    let fail = |issues| CompileError::new(source, issues);
    let length = source.chars().count();
    if length > MAX_CHARACTERS {
        let text =
            format!("expression code point size exceeds limit: size: {length}, limit {MAX_CHARACTERS}");
        return Err(fail(vec![Issue { at: 0, text }]));
    }
    let tokens = lex(source).map_err(fail)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        maker: Maker::default(),
    };
    let expr = parser.expr().and_then(|expr| match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("mismatched", "<EOF>")),
    });
    let expr = expr.map_err(|issue| fail(vec![issue]))?;
    parser.maker.check().map_err(|issue| fail(vec![issue]))?;
    Ok(Parsed {
        expr,
        ids: parser.maker.next(),
    })
}

/// Makes nodes with fresh ids, and knows how deep each one is.
#[derive(Default)]
pub struct Maker {
    depths: Vec<u32>,
    deepest: u32,
}

impl Maker {
    pub fn make(&mut self, at: u32, kind: Kind) -> Expr {
        let id = self.next();
        let depth = 1 + self.below(&kind);
        self.depths.push(depth);
        self.deepest = self.deepest.max(depth);
        Expr { id, at, kind }
    }

    fn next(&self) -> u32 {
        self.depths.len() as u32
    }

    /// # Errors
    /// What was made is too deep or too much.
    pub fn check(&self) -> Result<(), Issue> {
        let text = if self.deepest > MAX_DEPTH {
            format!("expression recursion limit exceeded: {MAX_DEPTH}")
        } else if self.depths.len() > MAX_NODES {
            format!("expression node limit exceeded: {MAX_NODES}")
        } else {
            return Ok(());
        };
        Err(Issue { at: 0, text })
    }

    /// The depth of the deepest part.
    fn below(&self, kind: &Kind) -> u32 {
        let of = |expr: &Expr| self.depths[expr.id as usize];
        let most = |list: &mut dyn Iterator<Item = &Expr>| list.map(of).max().unwrap_or(0);
        match kind {
            Kind::Literal(_) | Kind::Ident(_) => 0,
            Kind::Select { operand, .. } => of(operand),
            Kind::Call { target, args, .. } => most(&mut target.iter().map(|own| &**own).chain(args)),
            Kind::List(list) => most(&mut list.iter().map(|(own, _)| own)),
            Kind::Map(entries) => most(&mut entries.iter().flat_map(|entry| [&entry.key, &entry.value])),
            Kind::Struct { fields, .. } => most(&mut fields.iter().map(|field| &field.value)),
            Kind::Comprehension(own) => {
                most(&mut [&own.range, &own.init, &own.condition, &own.step, &own.result].into_iter())
            }
        }
    }

    pub fn ident(&mut self, at: u32, name: &str) -> Expr {
        self.make(at, Kind::Ident(name.into()))
    }

    pub fn literal(&mut self, at: u32, literal: Literal) -> Expr {
        self.make(at, Kind::Literal(literal))
    }

    pub fn call(&mut self, at: u32, function: &str, args: Vec<Expr>) -> Expr {
        self.make(
            at,
            Kind::Call {
                target: None,
                function: function.into(),
                args,
            },
        )
    }

    pub fn member(&mut self, at: u32, target: Expr, function: &str, args: Vec<Expr>) -> Expr {
        self.make(
            at,
            Kind::Call {
                target: Some(Box::new(target)),
                function: function.into(),
                args,
            },
        )
    }

    /// The same expression once more, with ids of its own.
    pub fn copy(&mut self, expr: &Expr) -> Expr {
        let mut copy = expr.clone();
        self.renumber(&mut copy);
        copy
    }

    fn renumber(&mut self, expr: &mut Expr) {
        self.depths.push(self.depths[expr.id as usize]);
        expr.id = self.next() - 1;
        match &mut expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => self.renumber(operand),
            Kind::Call { target, args, .. } => {
                target.iter_mut().for_each(|own| self.renumber(own));
                args.iter_mut().for_each(|own| self.renumber(own));
            }
            Kind::List(list) => list.iter_mut().for_each(|(own, _)| self.renumber(own)),
            Kind::Map(entries) => {
                for entry in entries {
                    self.renumber(&mut entry.key);
                    self.renumber(&mut entry.value);
                }
            }
            Kind::Struct { fields, .. } => fields.iter_mut().for_each(|own| self.renumber(&mut own.value)),
            Kind::Comprehension(own) => {
                let own = &mut **own;
                for part in [
                    &mut own.range,
                    &mut own.init,
                    &mut own.condition,
                    &mut own.step,
                    &mut own.result,
                ] {
                    self.renumber(part);
                }
            }
        }
    }
}

/// Text, level and function of each operator; a higher level binds tighter.
const BINARY: [(&str, u8, &str); 14] = [
    ("||", 0, "_||_"),
    ("&&", 1, "_&&_"),
    ("==", 2, "_==_"),
    ("!=", 2, "_!=_"),
    ("<=", 2, "_<=_"),
    (">=", 2, "_>=_"),
    ("<", 2, "_<_"),
    (">", 2, "_>_"),
    ("in", 2, "@in"),
    ("+", 3, "_+_"),
    ("-", 3, "_-_"),
    ("*", 4, "_*_"),
    ("/", 4, "_/_"),
    ("%", 4, "_%_"),
];

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    depth: u32,
    maker: Maker,
}

type Parse<T> = Result<T, Issue>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn place(&self) -> u32 {
        self.tokens[self.at].at
    }

    fn next(&mut self) -> Spanned {
        let token = self.tokens[self.at].clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn is(&self, op: &str) -> bool {
        matches!(self.peek(), Token::Op(own) if *own == op)
    }

    fn take(&mut self, op: &str) -> bool {
        let found = self.is(op);
        if found {
            self.at += 1;
        }
        found
    }

    fn issue<T>(&self, at: u32, text: impl Into<String>) -> Parse<T> {
        Err(Issue {
            at,
            text: text.into(),
        })
    }

    fn unexpected(&self, what: &str, expected: &str) -> Issue {
        let token = &self.tokens[self.at];
        let shown = match token.token {
            Token::End => "<EOF>",
            _ => &token.text,
        };
        Issue {
            at: token.at,
            text: format!("Syntax error: {what} input '{shown}' expecting {expected}"),
        }
    }

    fn expect(&mut self, op: &str) -> Parse<u32> {
        let at = self.place();
        if self.take(op) {
            return Ok(at);
        }
        Err(match self.peek() {
            Token::End => self.unexpected("mismatched", &format!("'{op}'")),
            _ => self.unexpected("extraneous", &format!("'{op}'")),
        })
    }

    /// A list or map may end with a comma, so what is missing after one is its end.
    fn not_at_end(&self, op: &str) -> Parse<()> {
        match self.peek() {
            Token::End => self.issue(self.place(), format!("Syntax error: missing '{op}' at '<EOF>'")),
            _ => Ok(()),
        }
    }

    fn expr(&mut self) -> Parse<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.issue(0, format!("expression recursion limit exceeded: {MAX_DEPTH}"));
        }
        let condition = self.binary(0)?;
        let at = self.place();
        let done = if self.take("?") {
            let yes = self.binary(0)?;
            self.expect(":")?;
            let no = self.expr()?;
            self.maker.call(at, "_?_:_", vec![condition, yes, no])
        } else {
            condition
        };
        self.depth -= 1;
        Ok(done)
    }

    fn operator(&self, min: u8) -> Option<(&'static str, u8, &'static str)> {
        let Token::Op(op) = self.peek() else { return None };
        BINARY
            .into_iter()
            .find(|(own, level, _)| own == op && *level >= min)
    }

    /// Operators of this level and tighter ones. `||` and `&&` are balanced, so that long chains stay flat.
    fn binary(&mut self, min: u8) -> Parse<Expr> {
        let mut left = self.unary()?;
        while let Some((op, level, function)) = self.operator(min) {
            let at = self.next().at;
            let right = self.binary(level + 1)?;
            left = if level < 2 {
                let (mut terms, mut places) = (vec![left, right], vec![at]);
                while self.is(op) {
                    places.push(self.next().at);
                    terms.push(self.binary(level + 1)?);
                }
                self.balance(terms, &places, function)
            } else {
                self.maker.call(at, function, vec![left, right])
            };
            self.maker.check()?;
        }
        Ok(left)
    }

    fn balance(&mut self, mut terms: Vec<Expr>, places: &[u32], function: &str) -> Expr {
        if terms.len() == 1 {
            return terms.remove(0);
        }
        let middle = terms.len().div_ceil(2);
        let right = terms.split_off(middle);
        let left = self.balance(terms, &places[..middle - 1], function);
        let right = self.balance(right, &places[middle..], function);
        self.maker.call(places[middle - 1], function, vec![left, right])
    }

    fn unary(&mut self) -> Parse<Expr> {
        for (op, function) in [("!", "!_"), ("-", "-_")] {
            if !self.is(op) {
                continue;
            }
            let at = self.place();
            let mut signs = 0usize;
            while self.take(op) {
                signs += 1;
            }
            // A number takes the sign right before it; two signs cancel each other out.
            if op == "-" && !signs.is_multiple_of(2) {
                let negative = match self.peek() {
                    Token::Literal(Literal::Int(value)) => Some(Literal::Int(value.wrapping_neg())),
                    Token::Literal(Literal::Double(value)) => Some(Literal::Double(-value)),
                    _ => None,
                };
                if let Some(literal) = negative {
                    self.at += 1;
                    let number = self.maker.literal(at, literal);
                    return self.members(number);
                }
            }
            let operand = self.member()?;
            return Ok(if signs.is_multiple_of(2) {
                operand
            } else {
                self.maker.call(at, function, vec![operand])
            });
        }
        self.member()
    }

    fn member(&mut self) -> Parse<Expr> {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut own: Expr) -> Parse<Expr> {
        loop {
            let at = self.place();
            if self.take(".") {
                let optional = self.take("?");
                let token = self.next();
                let Token::Ident(name) = token.token else {
                    self.at = self.at.saturating_sub(usize::from(token.token != Token::End));
                    return Err(self.unexpected("no viable alternative at", "IDENTIFIER"));
                };
                let open = self.place();
                own = if optional {
                    let field = self.maker.literal(token.at, Literal::String(name.into()));
                    self.maker.call(at, "_?._", vec![own, field])
                } else if self.take("(") {
                    let args = self.arguments()?;
                    macros::member(&mut self.maker, open, own, &name, args)?
                } else {
                    self.maker.make(
                        at,
                        Kind::Select {
                            operand: Box::new(own),
                            field: name.into(),
                            test: false,
                        },
                    )
                };
            } else if self.take("[") {
                let function = if self.take("?") { "_[?_]" } else { "_[_]" };
                let index = self.expr()?;
                self.expect("]")?;
                own = self.maker.call(at, function, vec![own, index]);
            } else if self.is("{") && message_name(&own).is_some() {
                let name = message_name(&own).unwrap_or_default();
                own = self.message(name)?;
            } else {
                return Ok(own);
            }
            self.maker.check()?;
        }
    }

    fn arguments(&mut self) -> Parse<Vec<Expr>> {
        let mut args = Vec::new();
        if self.take(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if !self.take(",") {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Parse<Expr> {
        let token = self.tokens[self.at].clone();
        match token.token {
            Token::Literal(Literal::Int(i64::MIN)) => self.issue(token.at, "invalid int literal"),
            Token::Literal(literal) => {
                self.at += 1;
                Ok(self.maker.literal(token.at, literal))
            }
            Token::Ident(name) => {
                self.at += 1;
                self.name(token.at, name)
            }
            Token::Op(".") => {
                self.at += 1;
                let token = self.next();
                let Token::Ident(name) = token.token else {
                    return self.issue(token.at, "Syntax error: no viable alternative at input '.'");
                };
                self.name(token.at, format!(".{name}"))
            }
            Token::Op("(") => {
                self.at += 1;
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Op("[") => {
                self.at += 1;
                let mut list = Vec::new();
                while !self.take("]") {
                    let optional = self.take("?");
                    list.push((self.expr()?, optional));
                    if !self.take(",") {
                        self.expect("]")?;
                        break;
                    }
                    self.not_at_end("]")?;
                }
                Ok(self.maker.make(token.at, Kind::List(list)))
            }
            Token::Op("{") => {
                self.at += 1;
                let mut entries = Vec::new();
                while !self.take("}") {
                    let optional = self.take("?");
                    let key = self.expr()?;
                    self.expect(":")?;
                    let value = self.expr()?;
                    entries.push(Entry { key, value, optional });
                    if !self.take(",") {
                        self.expect("}")?;
                        break;
                    }
                    self.not_at_end("}")?;
                }
                Ok(self.maker.make(token.at, Kind::Map(entries)))
            }
            Token::End => Err(self.unexpected("mismatched", OPERAND)),
            Token::Op(_) => Err(self.unexpected("extraneous", OPERAND)),
        }
    }

    fn name(&mut self, at: u32, name: String) -> Parse<Expr> {
        if is_reserved(&name) {
            return self.issue(at, format!("reserved identifier: {name}"));
        }
        let open = self.place();
        if self.take("(") {
            let args = self.arguments()?;
            return macros::global(&mut self.maker, open, &name, args);
        }
        Ok(self.maker.ident(at, &name))
    }

    fn message(&mut self, name: Name) -> Parse<Expr> {
        let at = self.expect("{")?;
        let mut fields = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let token = self.next();
            let Token::Ident(name) = token.token else {
                return self.issue(
                    token.at,
                    format!(
                        "Syntax error: mismatched input '{}' expecting IDENTIFIER",
                        token.text
                    ),
                );
            };
            let colon = self.expect(":")?;
            let value = self.expr()?;
            fields.push(Field {
                name: name.into(),
                at: colon,
                value,
                optional,
            });
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(self.maker.make(at, Kind::Struct { name, fields }))
    }
}

/// `a.b.C` as one name.
fn message_name(expr: &Expr) -> Option<Name> {
    match &expr.kind {
        Kind::Ident(name) => Some(name.clone()),
        Kind::Select {
            operand,
            field,
            test: false,
        } => Some(format!("{}.{field}", message_name(operand)?).into()),
        _ => None,
    }
}
