//! The least and the most an expression can cost.

use std::collections::HashMap;
use std::sync::Arc;

use super::{CHECK, FORMAT_PATTERN, LIST_CREATE, MAP_CREATE, PATTERN, STRUCT_CREATE, TRAVERSAL, times};
use crate::ast::{Comprehension, Expr, Kind, Literal, Name};
use crate::check::{Checked, Meaning};
use crate::env::Env;
use crate::opaque;
use crate::parser::Parsed;
use crate::types::{Decl, Type};

/// A range: of costs, or of sizes. Sums and products stop at the largest number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    pub min: u64,
    pub max: u64,
}

const UNKNOWN: Estimate = Estimate {
    min: 0,
    max: u64::MAX,
};

impl Estimate {
    pub fn fixed(own: u64) -> Self {
        Self { min: own, max: own }
    }

    fn range(min: u64, max: u64) -> Self {
        Self { min, max }
    }

    fn plus(self, other: Self) -> Self {
        Self::range(
            self.min.saturating_add(other.min),
            self.max.saturating_add(other.max),
        )
    }

    fn by(self, other: Self) -> Self {
        Self::range(
            self.min.saturating_mul(other.min),
            self.max.saturating_mul(other.max),
        )
    }

    fn times(self, factor: f64) -> Self {
        Self::range(times(self.min, factor), times(self.max, factor))
    }

    fn union(self, other: Self) -> Self {
        Self::range(self.min.min(other.min), self.max.max(other.max))
    }
}

/// Sizes of the keys and values, or indices and elements, of a container.
#[derive(Debug, Clone, Copy)]
struct Entries {
    list: bool,
    key: Estimate,
    value: Estimate,
}

impl Entries {
    fn union(own: Option<Entries>, other: Option<Entries>) -> Option<Entries> {
        let (own, other) = (own?, other?);
        Some(Entries {
            list: own.list,
            key: own.key.union(other.key),
            value: own.value.union(other.value),
        })
    }
}

#[derive(Clone, Default)]
struct Local {
    decl: Option<Arc<Decl>>,
    size: Option<Estimate>,
    entries: Option<Entries>,
}

struct Coster<'e> {
    env: &'e Env,
    /// What paths that begin nowhere are measured by, as upstream does.
    root: &'e Arc<Decl>,
    checked: &'e Checked,
    /// Where in the declarations a value comes from.
    decls: HashMap<u32, Arc<Decl>>,
    sizes: HashMap<u32, Estimate>,
    entries: HashMap<u32, Entries>,
    scopes: Vec<(Name, Local)>,
}

/// Estimates by the declarations of `env`; `root` is that of the first variable.
pub fn estimate(env: &Env, root: &Arc<Decl>, parsed: &Parsed, checked: &Checked) -> Estimate {
    let mut coster = Coster {
        env,
        root,
        checked,
        decls: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        scopes: Vec::new(),
    };
    coster.cost(&parsed.expr)
}

/// A call's cost beside that of its arguments, and the size of what it makes.
struct CallCost {
    cost: Estimate,
    size: Option<Estimate>,
    /// The cost of the arguments is in `cost`.
    whole: bool,
}

impl CallCost {
    fn of(cost: Estimate) -> Self {
        Self {
            cost,
            size: None,
            whole: false,
        }
    }

    fn fixed(cost: u64) -> Self {
        Self::of(Estimate::fixed(cost))
    }

    fn sized(self, size: Estimate) -> Self {
        Self {
            size: Some(size),
            ..self
        }
    }
}

impl Coster<'_> {
    fn ty(&self, expr: &Expr) -> &Type {
        &self.checked.types[expr.id as usize]
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.scopes
            .iter()
            .rev()
            .find(|(own, _)| **own == *name)
            .map(|(_, local)| local)
    }

    fn decl(&self, expr: &Expr) -> Option<Arc<Decl>> {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.decl.clone();
        }
        self.decls.get(&expr.id).cloned()
    }

    /// One step from a place; a step from nowhere leads to the root.
    fn step(&self, from: Option<&Arc<Decl>>, name: &str) -> Option<Arc<Decl>> {
        match from {
            None => Some(self.root.clone()),
            Some(decl) => decl.step(name).cloned(),
        }
    }

    fn set_decl(&mut self, expr: &Expr, decl: Option<Arc<Decl>>) {
        if let Some(decl) = decl {
            self.decls.insert(expr.id, decl);
        }
    }

    fn size(&self, expr: &Expr) -> Option<Estimate> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        let own = match &expr.kind {
            Kind::Literal(Literal::String(own)) => Some(own.chars().count()),
            Kind::Literal(Literal::Bytes(own)) => Some(own.len()),
            Kind::Literal(_) => Some(1),
            Kind::List(own) => Some(own.len()),
            Kind::Map(own) => Some(own.len()),
            _ => None,
        };
        if let Some(own) = own {
            return Some(Estimate::fixed(own as u64));
        }
        if let Some(decl) = self.decl(expr) {
            return Some(Estimate::range(0, decl.max_elements));
        }
        if self.ty(expr).is_scalar() {
            return Some(Estimate::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn size_or_unknown(&self, expr: &Expr) -> Estimate {
        self.size(expr).unwrap_or(UNKNOWN)
    }

    fn entries(&self, expr: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        }
    }

    fn cost(&mut self, expr: &Expr) -> Estimate {
        match &expr.kind {
            Kind::Literal(_) => Estimate::default(),
            Kind::Ident(name) => {
                let decl = match self.local(name) {
                    Some(local) => local.decl.clone(),
                    // What is no variable, a type, is measured by the root as well.
                    None => Some(match self.env.variable(name) {
                        Some(idx) => self.env.variables[idx].1.clone(),
                        None => self.root.clone(),
                    }),
                };
                self.set_decl(expr, decl);
                Estimate::fixed(1)
            }
            Kind::Select { operand, field, test } => self.select(expr, operand, field, *test),
            Kind::Call {
                target,
                function,
                args,
            } => self.call(expr, target.as_deref(), function, args),
            Kind::List(items) => {
                let mut sum = Estimate::fixed(LIST_CREATE);
                let mut of = empty_union(items.is_empty());
                for (item, _) in items {
                    sum = sum.plus(self.cost(item));
                    of = of.union(self.size_or_unknown(item));
                }
                let entries = Entries {
                    list: true,
                    key: Estimate::fixed(1),
                    value: of,
                };
                self.entries.insert(expr.id, entries);
                sum
            }
            Kind::Map(own) => {
                let mut sum = Estimate::fixed(MAP_CREATE);
                let mut entries = Entries {
                    list: false,
                    key: empty_union(own.is_empty()),
                    value: empty_union(own.is_empty()),
                };
                for entry in own {
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    entries.key = entries.key.union(self.size_or_unknown(&entry.key));
                    entries.value = entries.value.union(self.size_or_unknown(&entry.value));
                }
                self.entries.insert(expr.id, entries);
                sum
            }
            Kind::Struct { fields, .. } => {
                fields.iter().fold(Estimate::fixed(STRUCT_CREATE), |sum, field| {
                    sum.plus(self.cost(&field.value))
                })
            }
            Kind::Comprehension(own) if own.is_bind() => self.bind(expr, own),
            Kind::Comprehension(own) => self.comprehension(expr, own),
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool) -> Estimate {
        match self.checked.meanings[expr.id as usize] {
            Meaning::Type(_) => return Estimate::fixed(1),
            Meaning::Variable(idx) => {
                let decl = self.env.variables[idx].1.clone();
                self.set_decl(expr, Some(decl));
                return Estimate::fixed(1);
            }
            _ => {}
        }
        let sum = self.cost(operand);
        if test {
            return sum;
        }
        let decl = self.step(self.decl(operand).as_ref(), field);
        self.set_decl(expr, decl);
        match self.ty(operand) {
            Type::Map(_) | Type::Object(_) | Type::Param(_) => sum.plus(Estimate::fixed(1)),
            _ => sum,
        }
    }

    fn call(&mut self, expr: &Expr, target: Option<&Expr>, name: &str, args: &[Expr]) -> Estimate {
        if name == "dyn" && args.len() == 1 {
            let cost = self.cost(&args[0]);
            if let Some(size) = self.size(&args[0]) {
                self.sizes.insert(expr.id, size);
            }
            if let Some(entries) = self.entries(&args[0]) {
                self.entries.insert(expr.id, entries);
            }
            return cost.plus(Estimate::fixed(1));
        }
        let costs: Vec<Estimate> = args.iter().map(|arg| self.cost(arg)).collect();
        let Meaning::Call {
            function,
            overloads,
            qualified,
        } = &self.checked.meanings[expr.id as usize]
        else {
            return Estimate::default();
        };
        let (function, overloads, qualified) = (*function, overloads.clone(), *qualified);
        let target = target.filter(|_| !qualified);
        let mut sum = Estimate::default();
        if let Some(own) = target {
            sum = sum.plus(self.cost(own));
        }
        let all = costs.iter().fold(Estimate::default(), |sum, own| sum.plus(*own));
        let mut price = Estimate::range(u64::MAX, 0);
        let mut size: Option<Estimate> = None;
        let mut candidates: Vec<&str> = overloads.iter().map(|own| own.id).collect();
        if function.name == "_?._" {
            candidates.push("select_optional_field");
        }
        for id in candidates {
            let found = self.function(expr, function.name, id, target, args, &costs);
            price = price.union(if found.whole {
                found.cost
            } else {
                found.cost.plus(all)
            });
            size = match (size, found.size) {
                (Some(a), Some(b)) => Some(a.union(b)),
                (a, b) => a.or(b),
            };
            if id == "index_list" || id == "index_map" {
                size = self.entries(&args[0]).map(|own| own.value);
                let step = if id == "index_list" { "@items" } else { "@values" };
                let decl = self.step(self.decl(&args[0]).as_ref(), step);
                self.set_decl(expr, decl);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        sum.plus(price)
    }

    fn bind(&mut self, expr: &Expr, own: &Comprehension) -> Estimate {
        let sum = self.cost(&own.range).plus(self.cost(&own.init));
        let local = Local {
            decl: self.decl(&own.init),
            size: self.size(&own.init),
            entries: self.entries(&own.init),
        };
        self.scopes.push((own.accu.clone(), local));
        let sum = sum.plus(self.cost(&own.result));
        let (size, entries) = (self.size(&own.result), self.entries(&own.result));
        self.scopes.pop();
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        if let Some(entries) = entries {
            self.entries.insert(expr.id, entries);
        }
        sum
    }

    fn comprehension(&mut self, expr: &Expr, own: &Comprehension) -> Estimate {
        let mut sum = self.cost(&own.range).plus(self.cost(&own.init));
        let accu = Local {
            decl: self.decl(&own.init),
            size: self.size(&own.init),
            entries: self.entries(&own.init),
        };
        let depth = self.scopes.len();
        self.scopes.push((own.accu.clone(), accu));
        let entries = self.entries(&own.range);
        let list = entries.map_or(matches!(self.ty(&own.range), Type::List(_)), |own| own.list);
        let range = self.decl(&own.range);
        let (keys, values) = if list {
            ("@indices", "@items")
        } else {
            ("@keys", "@values")
        };
        let key = Local {
            decl: self.step(range.as_ref(), keys),
            size: entries.map(|own| own.key),
            entries: None,
        };
        let value = Local {
            decl: self.step(range.as_ref(), values),
            size: entries.map(|own| own.value),
            entries: None,
        };
        match &own.second {
            Some(second) => {
                self.scopes.push((own.var.clone(), key));
                self.scopes.push((second.clone(), value));
            }
            None => self
                .scopes
                .push((own.var.clone(), if list { value } else { key })),
        }
        let each = self.cost(&own.condition).plus(self.cost(&own.step));
        self.scopes.truncate(depth + 1);
        sum = sum.plus(self.cost(&own.result));
        self.scopes.truncate(depth);
        let count = self.size_or_unknown(&own.range);
        sum = sum.plus(count.by(each));
        match &own.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&own.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List(_) | Kind::Map(_) => {
                self.sizes.insert(expr.id, count);
                if let Some(entries) = self.entries(&own.step) {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        sum
    }

    /// The size of the elements of a list.
    fn element(&self, list: &Expr) -> (Type, Estimate) {
        let of = match self.ty(list) {
            Type::List(of) => (**of).clone(),
            _ => Type::Dyn,
        };
        let size = match self.decl(list) {
            Some(decl) => decl
                .step("@items")
                .map(|own| Estimate::range(0, own.max_elements)),
            None => None,
        };
        (of, size.unwrap_or(UNKNOWN))
    }

    fn function(
        &mut self,
        expr: &Expr,
        name: &str,
        id: &str,
        target: Option<&Expr>,
        args: &[Expr],
        costs: &[Estimate],
    ) -> CallCost {
        let of = |own: Option<&Expr>| own.map_or(UNKNOWN, |own| self.size_or_unknown(own));
        let (receiver, first) = (of(target), of(args.first()));
        let traversed = |size: Estimate| CallCost::of(size.times(TRAVERSAL));
        match name {
            "check" => CallCost::fixed(CHECK),
            "fieldSelector" | "labelSelector" => CallCost::of(Estimate::range(
                super::selector(first.min),
                super::selector(first.max),
            )),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                let Some(own) = target else {
                    return CallCost::fixed(1);
                };
                if !matches!(self.ty(own), Type::List(_)) {
                    return traversed(receiver);
                }
                let (ty, size) = self.element(own);
                let each = match ty {
                    Type::String | Type::Bytes => Estimate::fixed(1).plus(size.times(TRAVERSAL)),
                    _ => Estimate::fixed(1),
                };
                CallCost::of(receiver.by(each))
            }
            "url" | "jsonpatch.escapeKey" => traversed(first).sized(first),
            "lowerAscii" | "upperAscii" | "substring" | "trim" => traversed(receiver).sized(receiver),
            "replace" => {
                let by = args.get(1).map_or(UNKNOWN, |arg| self.size_or_unknown(arg));
                CallCost::of(receiver.times(2.0 * TRAVERSAL)).sized(replaced(receiver, first, by))
            }
            "split" => {
                let most = match args.get(1).map(|arg| &arg.kind) {
                    Some(Kind::Literal(Literal::Int(own))) => *own as u64,
                    _ => receiver.max,
                };
                CallCost::of(receiver.times(2.0 * TRAVERSAL)).sized(Estimate::range(0, most))
            }
            "join" => {
                let Some(own) = target else {
                    return CallCost::fixed(1);
                };
                let mut size = receiver.by(self.element(own).1);
                if !args.is_empty() {
                    let between =
                        Estimate::range(receiver.min.saturating_sub(1), receiver.max.saturating_sub(1));
                    size = size.plus(first.by(between));
                }
                traversed(size).sized(size)
            }
            "find" | "findAll" => {
                let text = receiver.plus(Estimate::fixed(1)).times(TRAVERSAL);
                CallCost::of(text.by(first.times(PATTERN))).sized(Estimate::range(0, receiver.max))
            }
            // Called without a receiver these cost what any function costs: upstream asks for one.
            "containsIP" | "containsCIDR" => {
                let bytes = Estimate::range(4, 16);
                let mut cost = bytes.plus(bytes).times(TRAVERSAL);
                if name == "containsCIDR" {
                    cost = cost.plus(bytes.times(TRAVERSAL)).plus(Estimate::fixed(1));
                }
                if id.ends_with("_string") {
                    cost = cost.plus(first.times(TRAVERSAL));
                }
                CallCost::of(cost)
            }
            "validate" => {
                let factor = FORMAT_PATTERN as f64 * PATTERN;
                CallCost::of(first.times(TRAVERSAL).times(factor))
            }
            "sets.contains" | "sets.intersects" | "sets.equivalent" => {
                let other = args.get(1).map_or(UNKNOWN, |arg| self.size_or_unknown(arg));
                let factor = if name == "sets.equivalent" { 2.0 } else { 1.0 };
                CallCost::of(Estimate::fixed(1).plus(first.by(other).times(factor)))
            }
            "flatten" | "reverse" | "slice" => CallCost::of(Estimate::fixed(1 + LIST_CREATE).plus(receiver))
                .sized(Estimate::range(0, receiver.max)),
            "optional.unwrap" => CallCost::of(Estimate::fixed(1 + LIST_CREATE).plus(first))
                .sized(Estimate::range(0, first.max)),
            "distinct" | "sort" | "@sortByAssociatedKeys" => {
                CallCost::of(Estimate::fixed(1 + LIST_CREATE).plus(receiver.by(receiver)))
                    .sized(Estimate::range(0, receiver.max))
            }
            "lists.range" => {
                let count = match args.first().map(|arg| &arg.kind) {
                    Some(Kind::Literal(Literal::Int(own))) => {
                        Estimate::fixed(u64::try_from(*own).unwrap_or(0))
                    }
                    _ => UNKNOWN,
                };
                CallCost::of(Estimate::fixed(LIST_CREATE).plus(count)).sized(count)
            }
            _ => self.operator(expr, id, target, args, costs),
        }
    }

    fn operator(
        &mut self,
        expr: &Expr,
        id: &str,
        target: Option<&Expr>,
        args: &[Expr],
        costs: &[Estimate],
    ) -> CallCost {
        let of = |idx: usize| args.get(idx).map_or(UNKNOWN, |own| self.size_or_unknown(own));
        let receiver = target.map_or(UNKNOWN, |own| self.size_or_unknown(own));
        match id {
            "string_format" => CallCost::of(receiver.times(TRAVERSAL)).sized(receiver.plus(of(0))),
            "string_to_bytes" => {
                let size = of(0);
                CallCost::of(size.times(TRAVERSAL))
                    .sized(Estimate::range(size.min, size.max.saturating_mul(4)))
            }
            "bytes_to_string" => {
                let size = of(0);
                CallCost::of(size.times(TRAVERSAL)).sized(Estimate::range(size.min / 4, size.max))
            }
            "strings_quote" => {
                let size = of(0);
                let most = size.max.saturating_mul(2).saturating_add(2);
                CallCost::of(size.times(TRAVERSAL)).sized(Estimate::range(size.min + 2, most))
            }
            "starts_with_string" | "ends_with_string" => CallCost::of(of(0).times(TRAVERSAL)),
            "in_list" => CallCost::of(of(1)),
            "matches" | "matches_string" if target.is_some() => {
                let text = receiver.plus(Estimate::fixed(1)).times(TRAVERSAL);
                CallCost::of(text.by(of(0).times(PATTERN)))
            }
            "contains_string" => CallCost::of(receiver.times(TRAVERSAL).by(of(0).times(TRAVERSAL))),
            "logical_or" | "logical_and" => CallCost {
                cost: Estimate::range(costs[0].min, costs[0].plus(costs[1]).max),
                size: None,
                whole: true,
            },
            "conditional" => {
                let size = of(1).union(of(2));
                if let Some(entries) = Entries::union(self.entries(&args[1]), self.entries(&args[2])) {
                    self.entries.insert(expr.id, entries);
                }
                CallCost {
                    cost: costs[0].plus(costs[1].union(costs[2])),
                    size: Some(size),
                    whole: true,
                }
            }
            "add_string" | "add_bytes" | "add_list" => {
                let size = of(0).plus(of(1));
                if let Some(entries) = Entries::union(self.entries(&args[0]), self.entries(&args[1])) {
                    self.entries.insert(expr.id, entries);
                }
                let cost = if id == "add_list" {
                    Estimate::fixed(1)
                } else {
                    size.times(TRAVERSAL)
                };
                CallCost::of(cost).sized(size)
            }
            "equals" if self.is_fixed_equality(&args[0], &args[1]) => CallCost::fixed(1),
            "equals"
            | "not_equals"
            | "less_string"
            | "less_bytes"
            | "greater_string"
            | "greater_bytes"
            | "less_equals_string"
            | "less_equals_bytes"
            | "greater_equals_string"
            | "greater_equals_bytes" => {
                let most = of(0).max.min(of(1).max);
                CallCost::of(Estimate::range(u64::from(most > 0), most).times(TRAVERSAL))
            }
            _ => CallCost::fixed(1),
        }
    }

    /// Two values of one of Kubernetes' own types.
    fn is_fixed_equality(&self, a: &Expr, b: &Expr) -> bool {
        match (self.ty(a), self.ty(b)) {
            (Type::Opaque(a), Type::Opaque(b)) => a == b && *a != opaque::URL,
            _ => false,
        }
    }
}

/// The empty union: that of nothing is zero.
fn empty_union(of_nothing: bool) -> Estimate {
    Estimate::range(if of_nothing { 0 } else { u64::MAX }, 0)
}

/// The size of a text in which something was replaced.
fn replaced(size: Estimate, old: Estimate, new: Estimate) -> Estimate {
    let ceil = |a: u64, b: u64| times(1, a as f64 / b as f64);
    let (most, kept_max) = if old.min == 0 {
        (size.max.saturating_add(1), size.max)
    } else if new.max <= old.min {
        (0, size.max)
    } else {
        (ceil(size.max, old.min), 0)
    };
    let (least, kept_min) = if old.max == 0 {
        (size.min.saturating_add(1), size.min)
    } else if old.max <= new.min {
        (0, size.min)
    } else {
        (ceil(size.min, old.max), 0)
    };
    Estimate::range(least, most)
        .by(new)
        .plus(Estimate::range(kept_min, kept_max))
}
