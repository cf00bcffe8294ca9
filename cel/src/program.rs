//! A compiled expression and its evaluation, with cost counted as upstream counts it.
//!
//! Source of the costs: cel-go's `interpreter/runtimecost.go`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use regex::Regex;

use crate::ast::Literal;
use crate::cost::{self, Estimate};
use crate::error::{Eval, EvalError};
use crate::library::{Call, Declared, access, operators};
use crate::types::{Object, Type};
use crate::value::{Key, List, Map, Str, Value};

/// Most cost of one evaluation. Source: `k8s.io/apiserver/pkg/apis/cel`, `PerCallLimit`.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// Most cost of all evaluations for one request, on one object. Source: as above, `RuntimeCELCostBudget`.
pub const RUNTIME_BUDGET: u64 = 10_000_000;

/// A checked expression, ready to run. Shared by all who run it.
#[derive(Debug)]
pub struct Program {
    pub(crate) root: Node,
    /// Local variables.
    pub(crate) slots: usize,
    /// What it evaluates to.
    pub ty: Type,
    /// Least and most it can cost, by the bounds of the declarations.
    pub estimate: Estimate,
    /// By the place of each variable: whether the expression names it.
    pub uses: Vec<bool>,
}

/// The values of an environment's variables, in its order; what is missing cannot be named without an error.
#[derive(Debug, Default)]
pub struct Bindings<'a> {
    values: Vec<Option<Value<'a>>>,
}

impl<'a> Bindings<'a> {
    pub fn new(values: Vec<Option<Value<'a>>>) -> Self {
        Self { values }
    }
}

/// What an evaluation may use up.
#[derive(Clone, Copy)]
pub struct Limits<'e> {
    pub cost: u64,
    /// Asked now and then; true ends the evaluation.
    pub cancelled: Option<&'e (dyn Fn() -> bool + Sync)>,
}

impl Default for Limits<'_> {
    fn default() -> Self {
        Self {
            cost: PER_CALL_LIMIT,
            cancelled: None,
        }
    }
}

/// Iterations between two looks at whether the request still lives.
const INTERRUPT_FREQUENCY: u32 = 100;

impl Program {
    /// Runs the expression. The second of the pair is what it cost, also when it failed.
    pub fn eval<'a>(&'a self, bindings: &Bindings<'a>, limits: Limits<'_>) -> (Eval<Value<'a>>, u64) {
        let mut machine = Machine {
            bindings,
            slots: Vec::new(),
            cost: 0,
            limits,
            ticks: 0,
        };
        machine.slots.resize_with(self.slots, || Slot::Empty);
        let result = machine.eval(&self.root);
        (result, machine.cost)
    }
}

/// A place in the program. Names are resolved: locals to slots, variables to places, functions to code.
#[derive(Debug)]
pub(crate) enum Node {
    Literal(Literal),
    /// A list or map of literals only, made once.
    Constant(Box<Value<'static>>),
    Type(Type),
    Variable(usize, Box<str>),
    Local(usize),
    Select(Box<Select>),
    /// `has(operand.field)`.
    Has(Box<Select>),
    Index(Box<(Node, Node)>),
    OptionalIndex(Box<(Node, Node)>),
    And(Box<(Node, Node)>),
    Or(Box<(Node, Node)>),
    Conditional(Box<(Node, Node, Node)>),
    NotStrictlyFalse(Box<Node>),
    OptionalOr(Box<(Node, Node)>, bool),
    /// Membership in a list of literals, kept as the keys of a map where all can be keys; costs nothing.
    InConstant(Box<(Node, Node)>),
    Call(Box<CallNode>),
    List(Box<[(Node, bool)]>),
    Map(Box<[(Node, Node, bool)]>),
    Object(Box<Construct>),
    /// The accumulator of a loop with elements added to it.
    Append(usize, Box<[(Node, bool)]>),
    /// The accumulator of a loop with entries added to it.
    Insert(usize, Box<[Node]>),
    Fold(Box<Fold>),
    Bind(Box<Bind>),
}

/// `Type{field: value}`; true for fields written `?field`.
#[derive(Debug)]
pub(crate) struct Construct {
    pub object: Arc<Object>,
    pub fields: Vec<(Box<str>, Node, bool)>,
}

#[derive(Debug)]
pub(crate) struct Select {
    pub operand: Node,
    pub field: Box<str>,
}

pub(crate) struct CallNode {
    pub function: &'static Declared,
    /// Empty when several may apply.
    pub overload: &'static str,
    pub args: Box<[Node]>,
    /// The pattern, where it is a literal; compiled when it is first used.
    pub pattern: Option<(Box<str>, OnceLock<Option<Regex>>)>,
}

impl std::fmt::Debug for CallNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.function.name, self.args)
    }
}

#[derive(Debug)]
pub(crate) struct Fold {
    pub range: Node,
    /// Slots.
    pub accu: usize,
    pub var: usize,
    pub second: Option<usize>,
    pub init: Node,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
}

#[derive(Debug)]
pub(crate) struct Bind {
    pub slot: usize,
    pub init: Node,
    pub body: Node,
}

enum Slot<'a> {
    Empty,
    /// Errors are values until something needs the value.
    Value(Eval<Value<'a>>),
    /// Evaluated when it is first named.
    Lazy(&'a Node),
}

struct Machine<'a, 'e> {
    bindings: &'e Bindings<'a>,
    slots: Vec<Slot<'a>>,
    cost: u64,
    limits: Limits<'e>,
    ticks: u32,
}

impl Node {
    /// Names, and what is picked from them: one chain costs as much as it has links.
    fn is_attribute(&self) -> bool {
        matches!(
            self,
            Node::Variable(..)
                | Node::Local(_)
                | Node::Select(_)
                | Node::Index(_)
                | Node::OptionalIndex(_)
                | Node::Conditional(_)
                | Node::Type(_)
        )
    }
}

impl<'a> Machine<'a, '_> {
    fn charge(&mut self, cost: u64) -> Eval<()> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limits.cost {
            return Err(EvalError::CostExceeded);
        }
        Ok(())
    }

    fn eval(&mut self, node: &'a Node) -> Eval<Value<'a>> {
        match node {
            Node::Literal(own) => Ok(literal(own)),
            Node::Constant(own) => Ok((**own).clone()),
            Node::Type(own) => self.charge(1).map(|()| Value::Type(own.clone())),
            Node::Variable(idx, name) => self.variable(*idx, name),
            Node::Local(slot) => self.local(*slot),
            Node::Select(own) => self.select(own),
            Node::Has(own) => self.has(own),
            Node::Index(own) => self.index(own, false),
            Node::OptionalIndex(own) => self.index(own, true),
            Node::And(own) => self.logical(own, false),
            Node::Or(own) => self.logical(own, true),
            Node::Conditional(own) => match self.eval(&own.0)? {
                Value::Bool(true) => self.eval(&own.1),
                Value::Bool(false) => self.eval(&own.2),
                _ => Err(EvalError::no_overload()),
            },
            Node::NotStrictlyFalse(own) => {
                let value = self.eval(own);
                self.charge(1)?;
                match value {
                    Err(error) if error.is_fatal() => Err(error),
                    Ok(Value::Bool(false)) => Ok(Value::Bool(false)),
                    _ => Ok(Value::Bool(true)),
                }
            }
            Node::OptionalOr(own, keep) => self.optional_or(own, *keep),
            Node::InConstant(own) => self.in_constant(own),
            Node::Call(own) => self.call(own),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Object(own) => self.object(own),
            Node::Append(slot, items) => self.append(*slot, items),
            Node::Insert(slot, args) => self.insert(*slot, args),
            Node::Fold(own) => self.fold(own),
            Node::Bind(own) => {
                self.slots[own.slot] = Slot::Lazy(&own.init);
                let result = self.eval(&own.body);
                self.slots[own.slot] = Slot::Empty;
                result
            }
        }
    }

    fn variable(&mut self, idx: usize, name: &str) -> Eval<Value<'a>> {
        self.charge(1)?;
        match self.bindings.values.get(idx) {
            Some(Some(value)) => Ok(value.clone()),
            _ => Err(EvalError::new(format!("no such attribute(s): {name}"))),
        }
    }

    fn local(&mut self, slot: usize) -> Eval<Value<'a>> {
        self.charge(1)?;
        if let Slot::Lazy(node) = self.slots[slot] {
            // A variable that names itself has no value.
            self.slots[slot] = Slot::Empty;
            let value = self.eval(node);
            self.slots[slot] = Slot::Value(value);
        }
        match &self.slots[slot] {
            Slot::Value(value) => value.clone(),
            _ => Err(EvalError::new("no such attribute(s)")),
        }
    }

    /// What something is picked from.
    fn operand(&mut self, node: &'a Node) -> Eval<Value<'a>> {
        let value = self.eval(node)?;
        self.charge(1 + u64::from(!node.is_attribute()))?;
        Ok(value)
    }

    fn select(&mut self, own: &'a Select) -> Eval<Value<'a>> {
        let value = self.operand(&own.operand)?;
        access::select(&value, &own.field)
    }

    fn has(&mut self, own: &'a Select) -> Eval<Value<'a>> {
        let value = self.eval(&own.operand)?;
        access::has(&value, &own.field).map(Value::Bool)
    }

    fn index(&mut self, own: &'a (Node, Node), optional: bool) -> Eval<Value<'a>> {
        let value = self.operand(&own.0)?;
        let key = self.eval(&own.1)?;
        if optional {
            access::optional_index(&value, &key)
        } else {
            access::index(&value, &key)
        }
    }

    fn logical(&mut self, own: &'a (Node, Node), decisive: bool) -> Eval<Value<'a>> {
        let left = self.eval(&own.0);
        match &left {
            Ok(Value::Bool(value)) if *value == decisive => return left,
            Err(error) if error.is_fatal() => return left,
            _ => {}
        }
        let right = self.eval(&own.1);
        match (left, right) {
            (_, Ok(Value::Bool(value))) if value == decisive => Ok(Value::Bool(value)),
            (_, Err(error)) if error.is_fatal() => Err(error),
            (Err(error), _) | (Ok(Value::Bool(_)), Err(error)) => Err(error),
            (Ok(Value::Bool(_)), Ok(Value::Bool(value))) => Ok(Value::Bool(value)),
            _ => Err(EvalError::no_overload()),
        }
    }

    fn optional_or(&mut self, own: &'a (Node, Node), keep: bool) -> Eval<Value<'a>> {
        match self.eval(&own.0)? {
            Value::Optional(None) => self.eval(&own.1),
            some @ Value::Optional(_) if keep => Ok(some),
            Value::Optional(Some(inner)) => Ok((*inner).clone()),
            _ => Err(EvalError::no_overload()),
        }
    }

    fn in_constant(&mut self, own: &'a (Node, Node)) -> Eval<Value<'a>> {
        let value = self.eval(&own.0)?;
        let Node::Constant(list) = &own.1 else {
            return Err(EvalError::no_overload());
        };
        Ok(Value::Bool(match &**list {
            Value::Map(Map::Own(known)) => Key::of(&value).is_ok_and(|key| known.contains_key(&key)),
            Value::List(List::Own(items)) => items.iter().any(|item| value.equals(item)),
            _ => return Err(EvalError::no_overload()),
        }))
    }

    fn call(&mut self, own: &'a CallNode) -> Eval<Value<'a>> {
        let mut args = Vec::with_capacity(own.args.len());
        for arg in &own.args {
            args.push(self.eval(arg)?);
        }
        // What a call will cost is known before it is made, but for the size of its result.
        let price = cost::of_call(own.function.name, own.overload, &args);
        self.charge(price)?;
        let regex = own.pattern.as_ref().and_then(|(text, cell)| {
            cell.get_or_init(|| crate::library::regexes::compile(text).ok())
                .as_ref()
        });
        let result = (own.function.call)(&Call { regex }, &args)?;
        let price = cost::of_result(own.function.name, &result);
        self.charge(price)?;
        Ok(result)
    }

    fn items(&mut self, items: &'a [(Node, bool)], out: &mut Vec<Value<'a>>) -> Eval<()> {
        for (item, optional) in items {
            match (self.eval(item)?, optional) {
                (Value::Optional(None), true) => {}
                (Value::Optional(Some(own)), true) => out.push((*own).clone()),
                (_, true) => {
                    return Err(EvalError::new(
                        "cannot initialize optional list element from non-optional value",
                    ));
                }
                (own, false) => out.push(own),
            }
        }
        Ok(())
    }

    fn list(&mut self, items: &'a [(Node, bool)]) -> Eval<Value<'a>> {
        let mut out = Vec::with_capacity(items.len());
        self.items(items, &mut out)?;
        self.charge(cost::LIST_CREATE)?;
        Ok(Value::list(out))
    }

    fn map(&mut self, entries: &'a [(Node, Node, bool)]) -> Eval<Value<'a>> {
        let mut out = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = Key::of(&self.eval(key)?)?;
            let value = match (self.eval(value)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(own)), true) => (*own).clone(),
                (_, true) => {
                    return Err(EvalError::new(format!(
                        "cannot initialize optional entry '{key}' from non-optional value"
                    )));
                }
                (own, false) => own,
            };
            // The last one of a name counts, as there.
            out.insert(key, value);
        }
        self.charge(cost::MAP_CREATE)?;
        Ok(Value::Map(Map::Own(Arc::new(out))))
    }

    fn object(&mut self, own: &'a Construct) -> Eval<Value<'a>> {
        let mut out = BTreeMap::new();
        for (name, value, optional) in &own.fields {
            let value = match (self.eval(value)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(own)), true) => (*own).clone(),
                (own, _) => own,
            };
            out.insert(Key::String(Str::Ref(name)), value);
        }
        self.charge(cost::STRUCT_CREATE)?;
        Ok(Value::Map(Map::Struct(own.object.clone(), Arc::new(out))))
    }

    fn take(&mut self, slot: usize) -> Eval<Value<'a>> {
        self.charge(1)?;
        match std::mem::replace(&mut self.slots[slot], Slot::Empty) {
            Slot::Value(value) => value,
            _ => Err(EvalError::new("no such attribute(s)")),
        }
    }

    /// The accumulator is taken out of its place, so that it has one owner and grows where it is.
    fn append(&mut self, slot: usize, items: &'a [(Node, bool)]) -> Eval<Value<'a>> {
        let mut added = Vec::with_capacity(items.len());
        let accu = self.take(slot)?;
        self.items(items, &mut added)?;
        self.charge(cost::LIST_CREATE + 1)?;
        match accu {
            Value::List(List::Own(mut list)) => {
                Arc::make_mut(&mut list).append(&mut added);
                Ok(Value::List(List::Own(list)))
            }
            _ => Err(EvalError::no_overload()),
        }
    }

    fn insert(&mut self, slot: usize, args: &'a [Node]) -> Eval<Value<'a>> {
        let accu = self.take(slot)?;
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.eval(arg)?);
        }
        self.charge(1)?;
        match accu {
            Value::Map(Map::Own(mut map)) => {
                operators::insert_into(Arc::make_mut(&mut map), &values)?;
                Ok(Value::Map(Map::Own(map)))
            }
            _ => Err(EvalError::no_overload()),
        }
    }

    fn fold(&mut self, own: &'a Fold) -> Eval<Value<'a>> {
        let range = self.eval(&own.range)?;
        let init = self.eval(&own.init);
        self.slots[own.accu] = Slot::Value(init);
        match &range {
            Value::List(list) => {
                for idx in 0..list.len() {
                    let Some(element) = list.get(idx) else { break };
                    let (first, second) = match own.second {
                        Some(_) => (Ok(Value::Int(idx as i64)), Some(element)),
                        None => (element, None),
                    };
                    if !self.iterate(own, first, second)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let second = own.second.and_then(|_| map.get(&key));
                    if !self.iterate(own, Ok(key.value()), second)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::no_overload()),
        }
        self.slots[own.var] = Slot::Empty;
        let result = self.eval(&own.result);
        self.slots[own.accu] = Slot::Empty;
        result
    }

    /// One step of a loop; false ends it.
    fn iterate(
        &mut self,
        own: &'a Fold,
        first: Eval<Value<'a>>,
        second: Option<Eval<Value<'a>>>,
    ) -> Eval<bool> {
        self.ticks += 1;
        if self.ticks.is_multiple_of(INTERRUPT_FREQUENCY)
            && self.limits.cancelled.is_some_and(|cancelled| cancelled())
        {
            return Err(EvalError::Cancelled);
        }
        self.slots[own.var] = Slot::Value(first);
        if let (Some(slot), Some(second)) = (own.second, second) {
            self.slots[slot] = Slot::Value(second);
        }
        match self.eval(&own.condition) {
            Ok(Value::Bool(false)) => return Ok(false),
            Err(error) if error.is_fatal() => return Err(error),
            _ => {}
        }
        let step = self.eval(&own.step);
        if let Err(error) = &step
            && error.is_fatal()
        {
            return step.map(|_| false);
        }
        self.slots[own.accu] = Slot::Value(step);
        Ok(true)
    }
}

/// The value of a literal.
pub(crate) fn literal<'a>(own: &Literal) -> Value<'a> {
    match own {
        Literal::Null => Value::Null,
        Literal::Bool(own) => Value::Bool(*own),
        Literal::Int(own) => Value::Int(*own),
        Literal::Uint(own) => Value::Uint(*own),
        Literal::Double(own) => Value::Double(*own),
        Literal::String(own) => Value::String(Str::Own(own.clone())),
        Literal::Bytes(own) => Value::Bytes(own.clone()),
    }
}
