//! Built-in types as expressions see them: what the checker of a policy's expressions is told about a kind.

use std::collections::HashMap;
use std::sync::Arc;

use corten_cel::{Decl, Field, ListKind, Object, Shape, UNBOUNDED, escape};

use super::{Kind, ListType, Type, schema};

/// The declaration of a type of the table. A type that holds itself is dynamic within itself.
pub fn declare(ty: &Type) -> Arc<Decl> {
    let mut known = HashMap::new();
    object(ty, &mut known)
}

/// By the names of types; `None` while one is being declared.
type Known = HashMap<&'static str, Option<Arc<Decl>>>;

fn object(ty: &Type, known: &mut Known) -> Arc<Decl> {
    match known.get(ty.name) {
        Some(Some(decl)) => return decl.clone(),
        Some(None) => return Arc::new(Decl::DYN),
        None => {}
    }
    known.insert(ty.name, None);
    let mut fields = std::collections::BTreeMap::new();
    for field in &ty.fields {
        let Some(name) = escape(field.name) else { continue };
        let decl = value(field.kind, field.list_type, &field.list_keys, known);
        let json = field.name.into();
        fields.insert(name.into_owned(), Field { json, decl });
    }
    let object = Object {
        name: ty.name.to_owned(),
        fields,
        open: false,
    };
    let decl = Arc::new(nullable(Shape::Object(Arc::new(object))));
    known.insert(ty.name, Some(decl.clone()));
    decl
}

/// Fields that are not set may be written as `null`.
fn nullable(shape: Shape) -> Decl {
    Decl {
        nullable: true,
        ..Decl::new(shape, UNBOUNDED, 1)
    }
}

fn value(kind: Kind, list_type: Option<ListType>, keys: &[&'static str], known: &mut Known) -> Arc<Decl> {
    let shape = match kind {
        Kind::String => Shape::String,
        Kind::Boolean => Shape::Bool,
        Kind::Int32 | Kind::Int64 => Shape::Int,
        Kind::Double => Shape::Double,
        Kind::Bytes => Shape::Bytes,
        Kind::Time | Kind::MicroTime => Shape::Timestamp,
        // A number or a text: told apart when the expression runs.
        Kind::Quantity | Kind::IntOrString | Kind::Any => return Arc::new(Decl::DYN),
        Kind::Struct(idx) => return object(schema().get(idx), known),
        Kind::List(of) => Shape::List {
            of: value(*of, None, &[], known),
            kind: match list_type {
                Some(ListType::Set) => ListKind::Set,
                Some(ListType::Map) => ListKind::Keyed,
                _ => ListKind::Plain,
            },
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        },
        Kind::Map(of) => Shape::Map {
            of: value(*of, None, &[], known),
            key: Arc::new(Decl::new(Shape::String, UNBOUNDED, 2)),
        },
    };
    Arc::new(nullable(shape))
}

#[cfg(test)]
mod tests {
    use corten_cel::{Bindings, Env, Limits, Value};
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(expression: &str, wanted: &str) {
        let decl = declare(schema().find("apps.v1.Deployment").expect("it is built in"));
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 3, "strategy": {"rollingUpdate": {"maxSurge": "25%"}}, "template": {"spec": {
                "containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": "2"}}}]}}}});
        let got = match Env::new([("object", decl.clone())]).compile(expression) {
            Err(error) => error.to_string().lines().next().unwrap_or_default().to_owned(),
            Ok(program) => {
                let bindings = Bindings::new(vec![Value::from_json(&object, &decl).ok()]);
                format!("{:?}", program.eval(&bindings, Limits::default()).0)
            }
        };
        assert_eq!(got, wanted, "{expression}");
    }

    #[test]
    fn a_deployment() {
        check("object.spec.replicas + 1", "Ok(Int(4))");
        check(
            "object.spec.template.spec.containers.all(c, c.image != '')",
            "Ok(Bool(true))",
        );
        check("object.metadata.__namespace__ == 'default'", "Ok(Bool(true))");
        check(
            "has(object.metadata.namespace) && object.metadata.namespace == 'default'",
            "Ok(Bool(true))",
        );
        check("object.metadata.creationTimestamp.getFullYear()", "Ok(Int(2026))");
        check(
            "type(object.spec.strategy.rollingUpdate.maxSurge) == string",
            "Ok(Bool(true))",
        );
        check(
            "quantity(object.spec.template.spec.containers[0].resources.limits.cpu).asInteger()",
            "Ok(Int(2))",
        );
        check(
            "object.replicas > 1",
            "ERROR: <input>:1:7: undefined field 'replicas'",
        );
        check(
            "object.spec.replicas == '3'",
            "ERROR: <input>:1:22: found no matching overload for '_==_' applied to '(int, string)'",
        );
    }

    #[test]
    fn every_type_can_be_declared() {
        for ty in schema().types() {
            assert!(matches!(declare(ty).shape, Shape::Object(_)), "{}", ty.name);
        }
    }
}
