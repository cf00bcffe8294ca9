//! The functions an expression may call: signatures for the checker, one implementation per name.
//!
//! An implementation looks at the values it gets; the checker has seen to their types unless they were dynamic.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use regex::Regex;

use crate::error::{Eval, EvalError};
use crate::opaque;
use crate::types::Type;
use crate::value::Value;

pub mod access;
pub mod convert;
pub mod format;
pub mod formats;
pub mod k8s;
pub mod lists;
pub mod net;
pub mod operators;
pub mod optional;
pub mod regexes;
pub mod semver;
pub mod strings;
pub mod times;
pub mod url;

/// What a call has beside its arguments.
pub struct Call<'p> {
    /// The pattern of the call, when it stands in the expression.
    pub regex: Option<&'p Regex>,
}

pub type Function = for<'a> fn(&Call<'_>, &[Value<'a>]) -> Eval<Value<'a>>;

/// Name, implementation, signatures: `id (a, b) result` or `id a.(b) result`, one per line.
pub struct Entry(pub &'static str, pub Function, pub &'static str);

#[derive(Debug)]
pub struct Overload {
    pub id: &'static str,
    pub member: bool,
    /// The receiver first.
    pub params: Vec<Type>,
    pub result: Type,
    /// Some types are parameters.
    pub generic: bool,
}

pub struct Declared {
    pub name: &'static str,
    pub call: Function,
    pub overloads: Vec<Overload>,
}

/// All functions by name.
pub static FUNCTIONS: LazyLock<HashMap<&'static str, Declared>> = LazyLock::new(|| {
    let tables = [
        operators::TABLE,
        access::TABLE,
        convert::TABLE,
        times::TABLE,
        strings::TABLE,
        lists::TABLE,
        regexes::TABLE,
        optional::TABLE,
        k8s::TABLE,
        formats::TABLE,
        net::TABLE,
        url::TABLE,
        semver::TABLE,
    ];
    let mut all: HashMap<&'static str, Declared> = HashMap::new();
    for Entry(name, call, signatures) in tables.into_iter().flatten() {
        let overloads: Vec<Overload> = signatures
            .lines()
            .map(str::trim)
            .filter(|own| !own.is_empty())
            .map(overload)
            .collect();
        let known = all.insert(
            name,
            Declared {
                name,
                call: *call,
                overloads,
            },
        );
        assert!(known.is_none(), "{name} is declared once");
    }
    all
});

fn overload(line: &'static str) -> Overload {
    let (id, rest) = line.split_once(' ').expect("an id comes first");
    let open = rest.find('(').expect("a parenthesis");
    let mut reader = Reader { rest };
    let mut params = Vec::new();
    let dotted = rest[..open].ends_with('.') || rest.contains(".(");
    if dotted {
        params.push(reader.ty());
        reader.expect(".");
    }
    reader.expect("(");
    while !reader.rest.starts_with(')') {
        params.push(reader.ty());
        if reader.rest.starts_with(',') {
            reader.expect(", ");
        }
    }
    reader.expect(") ");
    let result = reader.ty();
    assert!(reader.rest.is_empty(), "{line}");
    let generic = params.iter().chain([&result]).any(is_generic);
    Overload {
        id,
        member: dotted,
        params,
        result,
        generic,
    }
}

fn is_generic(ty: &Type) -> bool {
    match ty {
        Type::Param(_) => true,
        Type::List(of) | Type::Optional(of) | Type::Type(of) => is_generic(of),
        Type::Map(of) => is_generic(&of.0) || is_generic(&of.1),
        _ => false,
    }
}

struct Reader {
    rest: &'static str,
}

impl Reader {
    fn expect(&mut self, text: &str) {
        self.rest = self
            .rest
            .strip_prefix(text)
            .unwrap_or_else(|| panic!("{text:?} is expected at {:?}", self.rest));
    }

    fn ty(&mut self) -> Type {
        if let Some(name) = opaque::NAMES.iter().find(|name| self.rest.starts_with(**name)) {
            self.rest = &self.rest[name.len()..];
            return Type::Opaque(name);
        }
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.rest = &self.rest[end..];
        let mut inner = || {
            self.expect("(");
            let own = self.ty();
            if word != "map" {
                self.expect(")");
            }
            own
        };
        match word {
            "dyn" => Type::Dyn,
            "null" => Type::Null,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "timestamp" => Type::Timestamp,
            "duration" => Type::Duration,
            "list" => Type::list(inner()),
            "optional" => Type::optional(inner()),
            "type" => Type::Type(Arc::new(inner())),
            "map" => {
                let key = inner();
                self.expect(", ");
                let value = self.ty();
                self.expect(")");
                Type::map(key, value)
            }
            "A" => Type::Param(0),
            "B" => Type::Param(1),
            other => panic!("{other} is no type"),
        }
    }
}

/// Arguments that no overload takes.
pub fn no_overload<'a>(name: &str, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let types: Vec<String> = args.iter().map(Value::type_name).collect();
    Err(EvalError::new(format!(
        "no such overload: {name}({})",
        types.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: the libraries of `apiserver/pkg/cel/environment/base.go` for v1.36: cel-go v0.26 (standard, strings 2, sets,
    /// lists 3, optionals, comprehensions over two variables) and `apiserver/pkg/cel/library`.
    const UPSTREAM: &str = "
        !_ -_ @in @not_strictly_false @sortByAssociatedKeys _!=_ _%_ _&&_ _*_ _+_ _-_ _/_ _<=_ _<_ _==_ _>=_
        _>_ _?._ _?_:_ _[?_] _[_] _||_ add allowed asApproximateFloat asInteger bool bytes cel.@mapInsert
        charAt check cidr compareTo contains containsCIDR containsIP distinct double duration dyn endsWith
        error errored family fieldSelector find findAll first flatten format format.byte format.date
        format.datetime format.dns1035Label format.dns1035LabelPrefix format.dns1123Label
        format.dns1123LabelPrefix format.dns1123Subdomain format.dns1123SubdomainPrefix format.labelValue
        format.named format.qualifiedName format.uri format.uuid getDate getDayOfMonth getDayOfWeek
        getDayOfYear getEscapedPath getFullYear getHost getHostname getHours getMilliseconds getMinutes
        getMonth getPort getQuery getScheme getSeconds group hasValue indexOf int ip ip.isCanonical isCIDR
        isGlobalUnicast isGreaterThan isIP isInteger isLessThan isLinkLocalMulticast isLinkLocalUnicast
        isLoopback isQuantity isSemver isSorted isURL isUnspecified join jsonpatch.escapeKey labelSelector last
        lastIndexOf lists.range lowerAscii major masked matches max min minor name namespace optional.none
        optional.of optional.ofNonZeroValue optional.unwrap or orValue patch path prefixLength quantity reason
        replace resource reverse semver serviceAccount sets.contains sets.equivalent sets.intersects sign size
        slice sort split startsWith string strings.quote sub subresource substring sum timestamp trim type uint
        unwrapOpt upperAscii url validate value";

    #[test]
    fn there_are_exactly_the_functions_that_upstream_declares() {
        let mut wanted: Vec<&str> = UPSTREAM.split_whitespace().collect();
        let mut known: Vec<&str> = FUNCTIONS.keys().copied().collect();
        wanted.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, wanted);
    }
}
