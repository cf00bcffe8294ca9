//! Whether a type fits another, with what that says of types that are not known yet.

use std::sync::Arc;

use crate::types::Type;

/// What is known of each parameter so far.
#[derive(Debug, Default)]
pub struct Known {
    params: Vec<Option<Type>>,
    /// What was known before, of all that was set since the last decision.
    trail: Vec<(u32, Option<Type>)>,
}

/// Types of more parts are taken for dynamic, so that types cannot double at each step.
const MAX_PARTS: usize = 500;

/// The parts of a type, counted up to a bound.
fn parts(ty: &Type, most: usize) -> usize {
    if most == 0 {
        return 0;
    }
    1 + match ty {
        Type::List(of) | Type::Optional(of) | Type::Type(of) => parts(of, most - 1),
        Type::Map(of) => {
            let keys = parts(&of.0, most - 1);
            keys + parts(&of.1, (most - 1).saturating_sub(keys))
        }
        _ => 0,
    }
}

impl Known {
    pub fn fresh(&mut self) -> Type {
        self.params.push(None);
        Type::Param(self.params.len() as u32 - 1)
    }

    fn find(&self, param: u32) -> Option<&Type> {
        self.params.get(param as usize)?.as_ref()
    }

    fn set(&mut self, param: u32, ty: Type) {
        let ty = if parts(&ty, MAX_PARTS) >= MAX_PARTS {
            Type::Dyn
        } else {
            ty
        };
        let before = self.params[param as usize].replace(ty);
        self.trail.push((param, before));
    }

    /// The type with all that is known put in; what is not becomes `dyn` when asked so.
    pub fn resolve(&self, ty: &Type, to_dyn: bool) -> Type {
        match ty {
            Type::Param(own) => match self.find(*own) {
                Some(known) => self.resolve(known, to_dyn),
                None if to_dyn => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(of) => Type::list(self.resolve(of, to_dyn)),
            Type::Map(of) => Type::map(self.resolve(&of.0, to_dyn), self.resolve(&of.1, to_dyn)),
            Type::Optional(of) => Type::optional(self.resolve(of, to_dyn)),
            Type::Type(of) => Type::Type(Arc::new(self.resolve(of, to_dyn))),
            other => other.clone(),
        }
    }

    /// A signature's type, its parameters replaced by these.
    pub fn instance(ty: &Type, fresh: &[Type]) -> Type {
        match ty {
            Type::Param(own) => fresh[*own as usize].clone(),
            Type::List(of) => Type::list(Self::instance(of, fresh)),
            Type::Map(of) => Type::map(Self::instance(&of.0, fresh), Self::instance(&of.1, fresh)),
            Type::Optional(of) => Type::optional(Self::instance(of, fresh)),
            Type::Type(of) => Type::Type(Arc::new(Self::instance(of, fresh))),
            other => other.clone(),
        }
    }

    /// Fits `from` to `to`. Nothing is learned when it does not.
    pub fn fits(&mut self, from: &Type, to: &Type) -> bool {
        self.all_fit(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    /// As [`Known::fits`], for lists of one length.
    pub fn all_fit(&mut self, from: &[Type], to: &[Type]) -> bool {
        let fine = from.len() == to.len() && from.iter().zip(to).all(|(a, b)| self.assign(a, b));
        while let Some((param, before)) = self.trail.pop() {
            if !fine {
                self.params[param as usize] = before;
            }
        }
        fine
    }

    fn assign(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(param) = b {
            match self.substitute(a, *param) {
                Fit::Yes => return true,
                Fit::Known => return false,
                Fit::No => {}
            }
        }
        if let Type::Param(param) = a {
            return matches!(self.substitute(b, *param), Fit::Yes);
        }
        match (a, b) {
            _ if a.is_dyn() || b.is_dyn() => true,
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null
                    | Type::Object(_)
                    | Type::Opaque(_)
                    | Type::Optional(_)
                    | Type::Timestamp
                    | Type::Duration
            ),
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.assign(a, b),
            (Type::Map(a), Type::Map(b)) => self.assign(&a.0, &b.0) && self.assign(&a.1, &b.1),
            // Types are values; they are told apart when they are compared.
            (Type::Type(_), Type::Type(_)) => true,
            _ => a == b,
        }
    }

    /// Takes `ty` for a parameter.
    fn substitute(&mut self, ty: &Type, param: u32) -> Fit {
        if *ty == Type::Param(param) {
            return Fit::Yes;
        }
        if let Some(known) = self.find(param).cloned() {
            if known == *ty {
                return Fit::Yes;
            }
            if !self.assign(ty, &known) {
                return Fit::Known;
            }
            let general = self.more_general(ty, &known);
            if !self.mentions(&general, param) {
                self.set(param, general);
            }
            return Fit::Yes;
        }
        if self.mentions(ty, param) {
            return Fit::No;
        }
        self.set(param, ty.clone());
        Fit::Yes
    }

    /// True when a type is made of a parameter.
    fn mentions(&self, ty: &Type, param: u32) -> bool {
        match ty {
            Type::Param(own) => {
                *own == param || self.find(*own).is_some_and(|known| self.mentions(known, param))
            }
            Type::List(of) | Type::Optional(of) | Type::Type(of) => self.mentions(of, param),
            Type::Map(of) => self.mentions(&of.0, param) || self.mentions(&of.1, param),
            _ => false,
        }
    }

    /// The type of the two that says less.
    pub fn more_general(&self, a: &Type, b: &Type) -> Type {
        if self.says_no_more(a, b) {
            a.clone()
        } else {
            b.clone()
        }
    }

    fn says_no_more(&self, a: &Type, b: &Type) -> bool {
        match (a, b) {
            (Type::Dyn | Type::Param(_), _) => true,
            (_, Type::Dyn | Type::Param(_)) => false,
            (Type::Null, _) => false,
            (_, Type::Null) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => {
                self.says_no_more(a, b)
            }
            (Type::Map(a), Type::Map(b)) => self.says_no_more(&a.0, &b.0) && self.says_no_more(&a.1, &b.1),
            (Type::Type(_), Type::Type(_)) => true,
            _ => a == b,
        }
    }
}

enum Fit {
    Yes,
    /// The parameter is known to be something else.
    Known,
    No,
}
