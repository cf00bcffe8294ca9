//! The type checker.
//!
//! Source: cel-go's `checker/checker.go`, with the options Kubernetes sets: literals of one element type, comparison of
//! numbers of different types.

use crate::ast::{Comprehension, Entry, Expr, Field, Kind, Literal, Name};
use crate::env::Env;
use crate::library::k8s::PATCHES_ONLY;
use crate::library::{Declared, FUNCTIONS, Overload, format, regexes};
use crate::parser::Parsed;
use crate::source::Issue;
use crate::time;
use crate::types::Type;
use crate::unify::Known;

/// What a name or a call stands for.
#[derive(Clone, Default)]
pub enum Meaning {
    #[default]
    Plain,
    /// A type, as a value.
    Type(Type),
    /// A variable whose name has dots.
    Variable(usize),
    Call {
        function: &'static Declared,
        /// All that may apply; one, unless arguments are dynamic.
        overloads: Vec<&'static Overload>,
        /// `a.b(c)` is a function `a.b`, not a method.
        qualified: bool,
    },
}

/// By the ids of expressions.
pub struct Checked {
    pub types: Vec<Type>,
    pub meanings: Vec<Meaning>,
}

/// # Errors
/// All that is wrong, as upstream words it.
pub fn check(env: &Env, parsed: &Parsed) -> Result<Checked, Vec<Issue>> {
    let mut checker = Checker {
        env,
        known: Known::default(),
        scopes: Vec::new(),
        mixed: 0,
        types: vec![Type::Dyn; parsed.ids as usize],
        meanings: vec![Meaning::Plain; parsed.ids as usize],
        issues: Vec::new(),
    };
    checker.expr(&parsed.expr);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let types = checker
        .types
        .iter()
        .map(|ty| checker.known.resolve(ty, true))
        .collect();
    Ok(Checked {
        types,
        meanings: checker.meanings,
    })
}

struct Checker<'e> {
    env: &'e Env,
    known: Known,
    scopes: Vec<(Name, Type)>,
    /// Calls around this place whose arguments may be literals of mixed types.
    mixed: u32,
    types: Vec<Type>,
    meanings: Vec<Meaning>,
    issues: Vec<Issue>,
}

/// `a.b.c` of identifiers only.
pub fn qualified_name(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Ident(name) => Some(name.trim_start_matches('.').to_owned()),
        Kind::Select {
            operand,
            field,
            test: false,
        } => Some(format!("{}.{field}", qualified_name(operand)?)),
        _ => None,
    }
}

impl Checker<'_> {
    fn issue(&mut self, at: u32, text: String) {
        self.issues.push(Issue { at, text });
    }

    fn shown(&self, ty: &Type) -> String {
        self.known.resolve(ty, true).to_string()
    }

    fn mismatch(&mut self, at: u32, expected: &Type, found: &Type) {
        let text = format!(
            "expected type '{}' but found '{}'",
            self.shown(expected),
            self.shown(found)
        );
        self.issue(at, text);
    }

    fn expr(&mut self, expr: &Expr) -> Type {
        let ty = match &expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => self.ident(expr, name),
            Kind::Select { operand, field, test } => self.select(expr, operand, field, *test),
            Kind::Call {
                target,
                function,
                args,
            } => self.call(expr, target.as_deref(), function, args),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.object(expr, name, fields),
            Kind::Comprehension(own) => self.comprehension(expr, own),
        };
        self.types[expr.id as usize] = ty.clone();
        ty
    }

    fn ident(&mut self, expr: &Expr, name: &str) -> Type {
        if let Some((_, ty)) = self.scopes.iter().rev().find(|(own, _)| **own == *name) {
            return ty.clone();
        }
        let plain = name.strip_prefix('.').unwrap_or(name);
        if let Some(idx) = self.env.variable(plain) {
            return self.env.variables[idx].1.ty();
        }
        if let Some(ty) = self.env.named_type(plain) {
            self.meanings[expr.id as usize] = Meaning::Type(ty.clone());
            return Type::Type(ty.into());
        }
        self.issue(
            expr.at,
            format!("undeclared reference to '{plain}' (in container '')"),
        );
        Type::Error
    }

    /// True when what a name begins with belongs to a loop around it.
    fn is_local(&self, expr: &Expr) -> bool {
        match &expr.kind {
            Kind::Ident(name) => self.scopes.iter().any(|(own, _)| own == name),
            Kind::Select { operand, .. } => self.is_local(operand),
            _ => true,
        }
    }

    /// True when a name is bound, so that what it begins is no name of a type.
    fn is_bound(&self, expr: &Expr) -> bool {
        match &expr.kind {
            Kind::Ident(name) => {
                self.scopes.iter().any(|(own, _)| own == name)
                    || self.env.variable(name.trim_start_matches('.')).is_some()
            }
            Kind::Select { operand, .. } => self.is_bound(operand),
            _ => true,
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool) -> Type {
        if !test
            && !self.is_local(expr)
            && let Some(idx) = qualified_name(expr).and_then(|name| self.env.variable(&name))
        {
            self.meanings[expr.id as usize] = Meaning::Variable(idx);
            return self.env.variables[idx].1.ty();
        }
        if !test
            && !self.is_bound(expr)
            && let Some(ty) = qualified_name(expr).and_then(|name| self.env.named_type(&name))
        {
            self.meanings[expr.id as usize] = Meaning::Type(ty.clone());
            return Type::Type(ty.into());
        }
        let of = self.expr(operand);
        let found = self.field(expr.at, &of, field, false);
        if test { Type::Bool } else { found }
    }

    /// The type of a field; optional where what holds it is, or when it is asked for so.
    fn field(&mut self, at: u32, of: &Type, field: &str, optional: bool) -> Type {
        let of = self.known.resolve(of, false);
        let (of, optional) = match of {
            Type::Optional(inner) => ((*inner).clone(), true),
            other => (other, optional),
        };
        let found = match &of {
            Type::Map(map) => map.1.clone(),
            Type::Object(object) => match object.field(field) {
                Some(field) => field.decl.ty(),
                None if object.open => Type::Dyn,
                None => {
                    self.issue(at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.known.fits(&of, &Type::Dyn);
                Type::Dyn
            }
            other if other.is_dyn() => Type::Dyn,
            other => {
                let text = format!("type '{}' does not support field selection", self.shown(other));
                self.issue(at, text);
                Type::Error
            }
        };
        if optional { Type::optional(found) } else { found }
    }

    fn call(&mut self, expr: &Expr, target: Option<&Expr>, function: &str, args: &[Expr]) -> Type {
        if function == "_?._" {
            return self.optional_select(expr, args);
        }
        if let Some(own) = target
            && let Some(prefix) = qualified_name(own)
            && let Some(declared) = FUNCTIONS.get(&*format!("{prefix}.{function}"))
            && (declared.name != PATCHES_ONLY || self.env.makes_patches())
        {
            return self.resolve(expr, declared, false, None, args, true);
        }
        match FUNCTIONS.get(function.trim_start_matches('.')) {
            Some(declared) => self.resolve(expr, declared, target.is_some(), target, args, false),
            None => {
                if let Some(own) = target {
                    self.expr(own);
                }
                for arg in args {
                    self.expr(arg);
                }
                self.issue(
                    expr.at,
                    format!("undeclared reference to '{function}' (in container '')"),
                );
                Type::Error
            }
        }
    }

    fn optional_select(&mut self, expr: &Expr, args: &[Expr]) -> Type {
        let of = self.expr(&args[0]);
        self.types[args[1].id as usize] = Type::String;
        let Kind::Literal(Literal::String(field)) = &args[1].kind else {
            return Type::Error;
        };
        self.meanings[expr.id as usize] = Meaning::Call {
            function: &FUNCTIONS["_?._"],
            overloads: Vec::new(),
            qualified: false,
        };
        self.field(expr.at, &of, field, true)
    }

    fn resolve(
        &mut self,
        expr: &Expr,
        declared: &'static Declared,
        member: bool,
        target: Option<&Expr>,
        args: &[Expr],
        qualified: bool,
    ) -> Type {
        // What is printed may be of any types; all other literals have elements of one type.
        let mixed = u32::from(declared.name == "format");
        self.mixed += mixed;
        let given: Vec<Type> = target.into_iter().chain(args).map(|arg| self.expr(arg)).collect();
        self.mixed -= mixed;
        let mut overloads = Vec::new();
        let mut result: Option<Type> = None;
        for overload in declared.overloads.iter().filter(|own| own.member == member) {
            if overload.params.len() != given.len() {
                continue;
            }
            let fresh = if overload.generic {
                [self.known.fresh(), self.known.fresh()]
            } else {
                [Type::Dyn, Type::Dyn]
            };
            let params: Vec<Type> = overload
                .params
                .iter()
                .map(|ty| Known::instance(ty, &fresh))
                .collect();
            if !self.known.all_fit(&given, &params) {
                continue;
            }
            overloads.push(overload);
            let found = self
                .known
                .resolve(&Known::instance(&overload.result, &fresh), false);
            result = Some(match result {
                None => found,
                Some(known) if known == found => known,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            self.no_overload(expr.at, declared.name, &given, member);
            return Type::Error;
        };
        self.meanings[expr.id as usize] = Meaning::Call {
            function: declared,
            overloads,
            qualified,
        };
        self.literal_arguments(declared.name, target, args);
        if declared.name == "format" {
            self.literal_template(expr, target, args);
        }
        result
    }

    fn no_overload(&mut self, at: u32, name: &str, given: &[Type], member: bool) {
        let shown: Vec<String> = given.iter().map(|ty| self.shown(ty)).collect();
        let signature = match shown.split_first() {
            Some((own, rest)) if member => format!("{own}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        self.issue(
            at,
            format!("found no matching overload for '{name}' applied to '{signature}'"),
        );
    }

    /// Texts that are read when the expression runs are read beforehand.
    fn literal_arguments(&mut self, name: &str, target: Option<&Expr>, args: &[Expr]) {
        let arg = match (name, target, args) {
            ("duration" | "timestamp", None, [arg]) | ("matches", Some(_), [arg]) => arg,
            _ => return,
        };
        let Kind::Literal(Literal::String(text)) = &arg.kind else {
            return;
        };
        let fine = match name {
            "duration" => time::duration(text).is_ok(),
            "timestamp" => time::timestamp(text).is_ok(),
            _ => regexes::compile(text).is_ok(),
        };
        if !fine {
            self.issue(arg.at, format!("invalid {name} argument"));
        }
    }

    /// A template and a list that are both written out fit each other.
    fn literal_template(&mut self, call: &Expr, target: Option<&Expr>, args: &[Expr]) {
        let (
            Some(Kind::Literal(Literal::String(template))),
            [
                Expr {
                    kind: Kind::List(items),
                    ..
                },
            ],
        ) = (target.map(|own| &own.kind), args)
        else {
            return;
        };
        let types: Vec<Type> = items
            .iter()
            .map(|(item, _)| self.known.resolve(&self.types[item.id as usize], false))
            .collect();
        if let Err((idx, text)) = format::check(template, &types) {
            let at = idx.map_or(call.at, |idx| items[idx].0.at);
            self.issue(at, text);
        }
    }

    /// The type of elements that stand together.
    fn join(&mut self, at: u32, before: Option<Type>, own: Type) -> Type {
        let Some(before) = before else { return own };
        let [first, next] = [&before, &own].map(|ty| self.known.resolve(ty, false));
        let settled = |ty: &Type| !matches!(ty, Type::Dyn | Type::Error | Type::Param(_));
        let one_dynamic = matches!(
            (&first, &next),
            (Type::Dyn, other) | (other, Type::Dyn) if settled(other)
        );
        if self.mixed == 0 && one_dynamic {
            self.mismatch(at, &first, &next);
            return Type::Dyn;
        }
        if self.known.fits(&before, &own) {
            return self.known.more_general(&before, &own);
        }
        if self.mixed == 0 {
            self.mismatch(at, &before, &own);
        }
        Type::Dyn
    }

    /// The type within an optional element.
    fn unwrapped(&mut self, at: u32, own: Type, optional: bool) -> Type {
        if !optional {
            return own;
        }
        match self.known.resolve(&own, false) {
            Type::Optional(inner) => (*inner).clone(),
            other if other.is_dyn() => Type::Dyn,
            other => {
                self.mismatch(at, &Type::optional(other.clone()), &other);
                other
            }
        }
    }

    fn list(&mut self, items: &[(Expr, bool)]) -> Type {
        let mut of: Option<Type> = None;
        for (item, optional) in items {
            let own = self.expr(item);
            let own = self.unwrapped(item.at, own, *optional);
            of = Some(self.join(item.at, of, own));
        }
        Type::list(of.unwrap_or_else(|| self.known.fresh()))
    }

    fn map(&mut self, entries: &[Entry]) -> Type {
        let (mut key, mut value): (Option<Type>, Option<Type>) = (None, None);
        for entry in entries {
            let own = self.expr(&entry.key);
            let resolved = self.known.resolve(&own, false);
            let keyed = matches!(
                resolved,
                Type::Bool | Type::Int | Type::Uint | Type::Double | Type::String | Type::Param(_)
            );
            if !keyed && !resolved.is_dyn() {
                let text = format!("unsupported map key type: {}", self.shown(&resolved));
                self.issue(entry.key.at, text);
            }
            key = Some(self.join(entry.key.at, key, own));
            let own = self.expr(&entry.value);
            let own = self.unwrapped(entry.value.at, own, entry.optional);
            value = Some(self.join(entry.value.at, value, own));
        }
        let key = key.unwrap_or_else(|| self.known.fresh());
        let value = value.unwrap_or_else(|| self.known.fresh());
        Type::map(key, value)
    }

    fn object(&mut self, expr: &Expr, name: &str, fields: &[Field]) -> Type {
        let Some(object) = self.env.constructed(name.trim_start_matches('.')) else {
            let text = match self.env.named_type(name) {
                Some(_) => format!("'{name}' is not a message type"),
                None => format!("undeclared reference to '{name}' (in container '')"),
            };
            self.issue(expr.at, text);
            return Type::Error;
        };
        for field in fields {
            let own = self.expr(&field.value);
            let own = self.unwrapped(field.value.at, own, field.optional);
            let wanted = match object.field(&field.name) {
                Some(field) => field.decl.ty(),
                None if object.open => Type::Dyn,
                None => {
                    self.issue(field.at, format!("undefined field '{}'", field.name));
                    continue;
                }
            };
            if !self.known.fits(&wanted, &own) {
                let text = format!(
                    "expected type of field '{}' is '{}' but provided type is '{}'",
                    field.name,
                    self.shown(&wanted),
                    self.shown(&own)
                );
                self.issue(field.at, text);
            }
        }
        Type::Object(object)
    }

    fn comprehension(&mut self, expr: &Expr, own: &Comprehension) -> Type {
        let range = self.expr(&own.range);
        let accu = self.expr(&own.init);
        let resolved = self.known.resolve(&range, false);
        let (first, second) = match &resolved {
            Type::List(of) if own.second.is_some() => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Dyn),
            Type::Map(of) => (of.0.clone(), of.1.clone()),
            Type::Param(_) => {
                self.known.fits(&resolved, &Type::Dyn);
                (Type::Dyn, Type::Dyn)
            }
            other if other.is_dyn() => (Type::Dyn, Type::Dyn),
            other => {
                let text = format!(
                    "expression of type '{}' cannot be range of a comprehension (must be list, map, or dynamic)",
                    self.shown(other)
                );
                self.issue(own.range.at, text);
                (Type::Error, Type::Error)
            }
        };
        let depth = self.scopes.len();
        self.scopes.push((own.accu.clone(), accu.clone()));
        self.scopes.push((own.var.clone(), first));
        if let Some(name) = &own.second {
            self.scopes.push((name.clone(), second));
        }
        let condition = self.expr(&own.condition);
        if !self.known.fits(&Type::Bool, &condition) {
            self.mismatch(own.condition.at, &Type::Bool, &condition);
        }
        let step = self.expr(&own.step);
        if !self.known.fits(&accu, &step) {
            self.mismatch(expr.at, &accu, &step);
        }
        self.scopes.truncate(depth + 1);
        let result = self.expr(&own.result);
        self.scopes.truncate(depth);
        self.known.resolve(&result, false)
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
