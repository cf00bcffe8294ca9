//! From the checked expression to a program: names become places, what is constant is made once.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::ast::{ACCUMULATOR, Comprehension, Expr, Kind, Literal, Name};
use crate::check::{Checked, Meaning};
use crate::cost;
use crate::env::Env;
use crate::error::{Eval, EvalError};
use crate::library::{Call, regexes};
use crate::parser::Parsed;
use crate::program::{Bind, CallNode, Construct, Fold, Node, Program, Select, literal};
use crate::types::{Decl, Type};
use crate::value::{Key, List, Map, Value};

/// A program for a checked expression.
///
/// # Errors
/// For a constant that cannot be converted, or be a pattern.
pub fn plan(env: &Env, parsed: &Parsed, checked: &Checked) -> Eval<Program> {
    let mut planner = Planner {
        env,
        checked,
        scopes: Vec::new(),
        slots: 0,
        uses: vec![false; env.variables.len()],
        failed: None,
    };
    let root = planner.node(&parsed.expr);
    let root_decl = env
        .variables
        .first()
        .map_or_else(|| Arc::new(Decl::DYN), |(_, decl)| decl.clone());
    if let Some(error) = planner.failed {
        return Err(error);
    }
    Ok(Program {
        root,
        slots: planner.slots,
        ty: checked.types[parsed.expr.id as usize].clone(),
        estimate: cost::estimate(env, &root_decl, parsed, checked),
        uses: planner.uses,
    })
}

struct Planner<'e> {
    env: &'e Env,
    checked: &'e Checked,
    scopes: Vec<(Name, usize)>,
    slots: usize,
    uses: Vec<bool>,
    /// What was wrong with the first constant that cannot be converted.
    failed: Option<EvalError>,
}

/// Functions whose value for a literal is worked out beforehand.
const CONVERSIONS: [&str; 9] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "string",
    "timestamp",
    "uint",
];

impl Planner<'_> {
    fn boxed(&mut self, expr: &Expr) -> Box<Node> {
        Box::new(self.node(expr))
    }

    fn pair(&mut self, a: &Expr, b: &Expr) -> Box<(Node, Node)> {
        Box::new((self.node(a), self.node(b)))
    }

    fn node(&mut self, expr: &Expr) -> Node {
        if let Meaning::Type(ty) = &self.checked.meanings[expr.id as usize] {
            return Node::Type(ty.clone());
        }
        if let Meaning::Variable(idx) = &self.checked.meanings[expr.id as usize] {
            self.uses[*idx] = true;
            return Node::Variable(*idx, (*self.env.variables[*idx].0).into());
        }
        match &expr.kind {
            Kind::Literal(own) => Node::Literal(own.clone()),
            Kind::Ident(name) => self.name(name),
            Kind::Select { operand, field, test } => {
                let select = Box::new(Select {
                    operand: self.node(operand),
                    field: (**field).into(),
                });
                if *test {
                    Node::Has(select)
                } else {
                    Node::Select(select)
                }
            }
            Kind::Call {
                target,
                function,
                args,
            } => self.call(expr, target.as_deref(), function, args),
            Kind::List(items) => {
                let items: Box<[_]> = items
                    .iter()
                    .map(|(item, optional)| (self.node(item), *optional))
                    .collect();
                let constants: Option<Vec<Value<'static>>> = items
                    .iter()
                    .map(|(item, optional)| constant(item).filter(|_| !optional))
                    .collect();
                match constants {
                    Some(values) => Node::Constant(Box::new(Value::list(values))),
                    None => Node::List(items),
                }
            }
            Kind::Map(entries) => {
                let entries: Box<[_]> = entries
                    .iter()
                    .map(|entry| (self.node(&entry.key), self.node(&entry.value), entry.optional))
                    .collect();
                match constant_map(&entries) {
                    Some(map) => Node::Constant(Box::new(Value::Map(Map::Own(Arc::new(map))))),
                    None => Node::Map(entries),
                }
            }
            Kind::Struct { fields, .. } => {
                let fields = fields
                    .iter()
                    .map(|field| ((*field.name).into(), self.node(&field.value), field.optional))
                    .collect();
                match &self.checked.types[expr.id as usize] {
                    Type::Object(object) => Node::Object(Box::new(Construct {
                        object: object.clone(),
                        fields,
                    })),
                    _ => Node::Literal(Literal::Null),
                }
            }
            Kind::Comprehension(own) => self.comprehension(own),
        }
    }

    fn name(&mut self, name: &str) -> Node {
        if let Some((_, slot)) = self.scopes.iter().rev().find(|(own, _)| **own == *name) {
            return Node::Local(*slot);
        }
        let plain = name.strip_prefix('.').unwrap_or(name);
        match self.env.variable(plain) {
            Some(idx) => {
                self.uses[idx] = true;
                Node::Variable(idx, plain.into())
            }
            // The checker has refused other names.
            None => Node::Literal(Literal::Null),
        }
    }

    fn call(&mut self, expr: &Expr, target: Option<&Expr>, name: &str, args: &[Expr]) -> Node {
        let Meaning::Call {
            function,
            overloads,
            qualified,
        } = &self.checked.meanings[expr.id as usize]
        else {
            return Node::Literal(Literal::Null);
        };
        let target = target.filter(|_| !qualified);
        match (name, target, args) {
            ("_&&_", None, [a, b]) => return Node::And(self.pair(a, b)),
            ("_||_", None, [a, b]) => return Node::Or(self.pair(a, b)),
            ("_?_:_", None, [a, b, c]) => {
                return Node::Conditional(Box::new((self.node(a), self.node(b), self.node(c))));
            }
            ("_[_]", None, [a, b]) => return Node::Index(self.pair(a, b)),
            ("_[?_]" | "_?._", None, [a, b]) => return Node::OptionalIndex(self.pair(a, b)),
            ("@not_strictly_false", None, [a]) => return Node::NotStrictlyFalse(self.boxed(a)),
            ("or", Some(own), [other]) => return Node::OptionalOr(self.pair(own, other), true),
            ("orValue", Some(own), [other]) => return Node::OptionalOr(self.pair(own, other), false),
            ("_+_", None, [accu, list]) if is_accumulator(accu) => {
                if let (Node::Local(slot), Kind::List(items)) = (self.node(accu), &list.kind) {
                    let items = items
                        .iter()
                        .map(|(item, optional)| (self.node(item), *optional))
                        .collect();
                    return Node::Append(slot, items);
                }
            }
            ("cel.@mapInsert", None, [accu, rest @ ..]) if is_accumulator(accu) => {
                if let Node::Local(slot) = self.node(accu) {
                    return Node::Insert(slot, rest.iter().map(|arg| self.node(arg)).collect());
                }
            }
            _ => {}
        }
        let nodes: Box<[Node]> = target.into_iter().chain(args).map(|arg| self.node(arg)).collect();
        let overload = match overloads[..] {
            [one] => one.id,
            _ => "",
        };
        if overload == "in_list" && matches!(nodes.get(1), Some(Node::Constant(_))) {
            let mut nodes = nodes.into_iter();
            return match (nodes.next(), nodes.next()) {
                (Some(own), Some(list)) => Node::InConstant(Box::new((own, keyed(list)))),
                _ => Node::Literal(Literal::Null),
            };
        }
        if CONVERSIONS.contains(&function.name)
            && let [own] = &*nodes
            && let Some(value) = constant(own)
        {
            match (function.call)(&Call { regex: None }, &[value]) {
                Ok(value) => return Node::Constant(Box::new(value)),
                Err(error) => _ = self.failed.get_or_insert(error),
            }
        }
        let pattern = match (function.name, nodes.get(1)) {
            ("matches" | "find" | "findAll", Some(Node::Literal(Literal::String(text)))) => {
                if let Err(error) = regexes::read(text) {
                    self.failed.get_or_insert(error);
                }
                Some((text.as_ref().into(), OnceLock::new()))
            }
            _ => None,
        };
        Node::Call(Box::new(CallNode {
            function,
            overload,
            args: nodes,
            pattern,
        }))
    }

    fn slot(&mut self, name: &Name) -> usize {
        // No place is used twice: what is bound is evaluated later, within other loops.
        let slot = self.slots;
        self.scopes.push((name.clone(), slot));
        self.slots += 1;
        slot
    }

    fn comprehension(&mut self, own: &Comprehension) -> Node {
        let depth = self.scopes.len();
        if own.is_bind() {
            let init = self.node(&own.init);
            let slot = self.slot(&own.accu);
            let body = self.node(&own.result);
            self.scopes.truncate(depth);
            return Node::Bind(Box::new(Bind { slot, init, body }));
        }
        let range = self.node(&own.range);
        let init = self.node(&own.init);
        let accu = self.slot(&own.accu);
        let var = self.slot(&own.var);
        let second = own.second.as_ref().map(|name| self.slot(name));
        let condition = self.node(&own.condition);
        let step = self.node(&own.step);
        self.scopes.truncate(depth + 1);
        let result = self.node(&own.result);
        self.scopes.truncate(depth);
        Node::Fold(Box::new(Fold {
            range,
            accu,
            var,
            second,
            init,
            condition,
            step,
            result,
        }))
    }
}

fn is_accumulator(expr: &Expr) -> bool {
    matches!(&expr.kind, Kind::Ident(name) if &**name == ACCUMULATOR)
}

fn constant(node: &Node) -> Option<Value<'static>> {
    match node {
        Node::Literal(own) => Some(literal(own)),
        Node::Constant(own) => Some((**own).clone()),
        _ => None,
    }
}

/// A list of literals as the keys of a map, unless some can be no keys.
fn keyed(list: Node) -> Node {
    let keys: Option<BTreeMap<Key<'static>, Value<'static>>> = match &list {
        Node::Constant(own) => match &**own {
            Value::List(List::Own(items)) => items
                .iter()
                .map(|item| Some((Key::of(item).ok()?, Value::Null)))
                .collect(),
            _ => None,
        },
        _ => None,
    };
    match keys {
        Some(keys) => Node::Constant(Box::new(Value::Map(Map::Own(Arc::new(keys))))),
        None => list,
    }
}

fn constant_map(entries: &[(Node, Node, bool)]) -> Option<BTreeMap<Key<'static>, Value<'static>>> {
    let mut map = BTreeMap::new();
    for (key, value, optional) in entries {
        let key = Key::of(&constant(key)?).ok()?;
        if *optional || map.contains_key(&key) {
            return None;
        }
        map.insert(key, constant(value)?);
    }
    Some(map)
}
