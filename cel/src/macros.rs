//! Macros: calls that become other expressions when they are parsed.
//!
//! Source: cel-go's `parser/macro.go`, `ext/comprehensions.go`, `ext/lists.go`, `cel/library.go`.

use crate::ast::{ACCUMULATOR, Comprehension, Expr, Kind, Literal, UNUSED};
use crate::parser::Maker;
use crate::source::Issue;

type Expanded = Result<Expr, Issue>;

fn refuse(at: u32, text: &str) -> Expanded {
    Err(Issue {
        at,
        text: text.into(),
    })
}

/// A call without a receiver: `has`, or a plain function.
pub fn global(make: &mut Maker, at: u32, name: &str, args: Vec<Expr>) -> Expanded {
    if name != "has" || args.len() != 1 {
        return Ok(make.call(at, name, args));
    }
    match args.into_iter().next().map(|arg| (arg.at, arg.kind)) {
        Some((
            _,
            Kind::Select {
                operand,
                field,
                test: false,
            },
        )) => Ok(make.make(
            at,
            Kind::Select {
                operand,
                field,
                test: true,
            },
        )),
        Some((place, _)) => refuse(place, "invalid argument to has() macro"),
        None => refuse(at, "invalid argument to has() macro"),
    }
}

/// A call with a receiver.
pub fn member(make: &mut Maker, at: u32, target: Expr, name: &str, mut args: Vec<Expr>) -> Expanded {
    make.check()?;
    let mut maker = Member { make, at };
    match (name, args.len()) {
        ("all" | "exists" | "exists_one" | "filter", 2) => {
            let predicate = args.remove(1);
            let var = simple(&args[0])?;
            maker.quantifier(name, target, var, None, predicate)
        }
        ("all" | "exists" | "exists_one" | "existsOne", 3) => {
            let predicate = args.remove(2);
            let (var, second) = (simple(&args[0])?, simple(&args[1])?);
            maker.quantifier(name, target, var, Some(second), predicate)
        }
        ("map", 2 | 3) => {
            let transform = args.remove(args.len() - 1);
            let filter = (args.len() == 2).then(|| args.remove(1));
            let var = simple(&args[0])?;
            maker.map(target, var, None, filter, transform)
        }
        ("transformList", 3 | 4) => {
            let transform = args.remove(args.len() - 1);
            let filter = (args.len() == 3).then(|| args.remove(2));
            let (var, second) = (simple(&args[0])?, simple(&args[1])?);
            maker.map(target, var, Some(second), filter, transform)
        }
        ("transformMap" | "transformMapEntry", 3 | 4) => {
            let transform = args.remove(args.len() - 1);
            let filter = (args.len() == 3).then(|| args.remove(2));
            let (var, second) = (simple(&args[0])?, simple(&args[1])?);
            maker.transform_map(name, target, (var, second), filter, transform)
        }
        ("optMap" | "optFlatMap", 2) => {
            let body = args.remove(1);
            let var = match &args[0].kind {
                Kind::Ident(own) => own.to_string(),
                _ => {
                    let text = format!("{name}() variable name must be a simple identifier");
                    return refuse(args[0].at, &text);
                }
            };
            Ok(maker.opt_map(name, target, &var, body))
        }
        ("sortBy", 2) => {
            let key = args.remove(1);
            let var = simple(&args[0])?;
            maker.sort_by(target, var, key)
        }
        _ => Ok(make.member(at, target, name, args)),
    }
}

/// The name of an iteration variable.
fn simple(expr: &Expr) -> Result<String, Issue> {
    match &expr.kind {
        Kind::Ident(name) if !name.starts_with('.') => Ok(name.to_string()),
        _ => Err(Issue {
            at: expr.at,
            text: "argument must be a simple name".into(),
        }),
    }
}

struct Member<'a> {
    make: &'a mut Maker,
    at: u32,
}

impl Member<'_> {
    fn accu(&mut self) -> Expr {
        self.make.ident(self.at, ACCUMULATOR)
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.make.literal(self.at, literal)
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.make.call(self.at, function, args)
    }

    fn list(&mut self, items: Vec<Expr>) -> Expr {
        let items = items.into_iter().map(|own| (own, false)).collect();
        self.make.make(self.at, Kind::List(items))
    }

    /// A loop whose result is the accumulator.
    fn fold(
        &mut self,
        range: Expr,
        (var, second): (String, Option<String>),
        init: Expr,
        condition: Expr,
        step: Expr,
    ) -> Expr {
        let result = self.accu();
        self.comprehension(range, (var, second), init, condition, step, result)
    }

    fn comprehension(
        &mut self,
        range: Expr,
        (var, second): (String, Option<String>),
        init: Expr,
        condition: Expr,
        step: Expr,
        result: Expr,
    ) -> Expr {
        let own = Comprehension {
            var: var.into(),
            second: second.map(Into::into),
            range,
            accu: ACCUMULATOR.into(),
            init,
            condition,
            step,
            result,
        };
        self.make.make(self.at, Kind::Comprehension(Box::new(own)))
    }

    fn quantifier(
        &mut self,
        name: &str,
        range: Expr,
        var: String,
        second: Option<String>,
        predicate: Expr,
    ) -> Expanded {
        if second.as_deref() == Some(&*var) {
            return refuse(self.at, &format!("duplicate variable name: {var}"));
        }
        let vars = (var, second);
        Ok(match name {
            "all" => {
                let init = self.literal(Literal::Bool(true));
                let accu = self.accu();
                let condition = self.call("@not_strictly_false", vec![accu]);
                let accu = self.accu();
                let step = self.call("_&&_", vec![accu, predicate]);
                self.fold(range, vars, init, condition, step)
            }
            "exists" => {
                let init = self.literal(Literal::Bool(false));
                let accu = self.accu();
                let not = self.call("!_", vec![accu]);
                let condition = self.call("@not_strictly_false", vec![not]);
                let accu = self.accu();
                let step = self.call("_||_", vec![accu, predicate]);
                self.fold(range, vars, init, condition, step)
            }
            "filter" => {
                let element = self.make.ident(self.at, &vars.0);
                return self.map(range, vars.0, None, Some(predicate), element);
            }
            _ => {
                let init = self.literal(Literal::Int(0));
                let condition = self.literal(Literal::Bool(true));
                let (accu, one) = (self.accu(), self.literal(Literal::Int(1)));
                let more = self.call("_+_", vec![accu, one]);
                let same = self.accu();
                let step = self.call("_?_:_", vec![predicate, more, same]);
                let (accu, one) = (self.accu(), self.literal(Literal::Int(1)));
                let result = self.call("_==_", vec![accu, one]);
                self.comprehension(range, vars, init, condition, step, result)
            }
        })
    }

    /// `step`, only where `filter` holds.
    fn filtered(&mut self, filter: Option<Expr>, step: Expr) -> Expr {
        match filter {
            None => step,
            Some(filter) => {
                let same = self.accu();
                self.call("_?_:_", vec![filter, step, same])
            }
        }
    }

    fn map(
        &mut self,
        range: Expr,
        var: String,
        second: Option<String>,
        filter: Option<Expr>,
        transform: Expr,
    ) -> Expanded {
        if second.as_deref() == Some(&*var) {
            return refuse(self.at, &format!("duplicate variable name: {var}"));
        }
        let init = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(true));
        let accu = self.accu();
        let item = self.list(vec![transform]);
        let step = self.call("_+_", vec![accu, item]);
        let step = self.filtered(filter, step);
        Ok(self.fold(range, (var, second), init, condition, step))
    }

    fn transform_map(
        &mut self,
        name: &str,
        range: Expr,
        (var, second): (String, String),
        filter: Option<Expr>,
        transform: Expr,
    ) -> Expanded {
        if var == second {
            return refuse(self.at, &format!("duplicate variable name: {var}"));
        }
        let init = self.make.make(self.at, Kind::Map(Vec::new()));
        let condition = self.literal(Literal::Bool(true));
        let accu = self.accu();
        let args = if name == "transformMap" {
            let key = self.make.ident(self.at, &var);
            vec![accu, key, transform]
        } else {
            vec![accu, transform]
        };
        let step = self.call("cel.@mapInsert", args);
        let step = self.filtered(filter, step);
        Ok(self.fold(range, (var, Some(second)), init, condition, step))
    }

    fn bind(&mut self, var: &str, init: Expr, body: Expr) -> Expr {
        let range = self.list(Vec::new());
        let condition = self.literal(Literal::Bool(false));
        let step = self.make.ident(self.at, var);
        let own = Comprehension {
            var: UNUSED.into(),
            second: None,
            range,
            accu: var.into(),
            init,
            condition,
            step,
            result: body,
        };
        self.make.make(self.at, Kind::Comprehension(Box::new(own)))
    }

    fn opt_map(&mut self, name: &str, target: Expr, var: &str, body: Expr) -> Expr {
        let copy = self.make.copy(&target);
        let value = self.make.member(self.at, copy, "value", Vec::new());
        let mut mapped = self.bind(var, value, body);
        if name == "optMap" {
            mapped = self.call("optional.of", vec![mapped]);
        }
        let has = self.make.member(self.at, target, "hasValue", Vec::new());
        let none = self.call("optional.none", Vec::new());
        self.call("_?_:_", vec![has, mapped, none])
    }

    fn sort_by(&mut self, target: Expr, var: String, key: Expr) -> Expanded {
        const INPUT: &str = "@__sortBy_input__";
        let range = self.make.ident(self.at, INPUT);
        let keys = self.map(range, var, None, None, key)?;
        let input = self.make.ident(self.at, INPUT);
        let sorted = self
            .make
            .member(self.at, input, "@sortByAssociatedKeys", vec![keys]);
        Ok(self.bind(INPUT, target, sorted))
    }
}
