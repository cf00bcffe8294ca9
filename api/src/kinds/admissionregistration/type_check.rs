//! What a ValidatingAdmissionPolicy's status says of its expressions: whether they fit the types its rules name.
//!
//! Warnings only: a policy with them is in force as before. Source: upstream's `policy/validating/typechecking.go`.

use std::collections::BTreeSet;
use std::sync::Arc;

use corten_cel::{Decl, Shape, Type};
use serde_json::Value;

use super::expressions::{MAX_VARIABLES, typed_environment, with_variables};
use crate::schema;
use crate::schema::declare::declare;
use crate::{custom, registry};

/// Types that one policy is checked against. Source: `maxTypesToCheck`.
pub const MAX_TYPES: usize = 10;

/// A resource that a policy's rules name: group, version, plural.
pub type Named = (String, String, String);

/// A type of objects: how it is named in a warning, and what expressions see of it.
#[derive(Debug, Clone)]
pub struct Typed {
    /// `group/version, Kind=Kind`.
    pub name: String,
    pub decl: Arc<Decl>,
}

/// An expression that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `spec.validations[0].expression`
    pub field: String,
    /// One paragraph for each type it does not fit.
    pub text: String,
}

/// The resources that the rules name, in order. A rule with wildcards names none, a subresource is none.
#[must_use]
pub fn named(policy: &Value) -> Vec<Named> {
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let wild = |texts: &[String]| texts.iter().any(|text| text.contains('*'));
    let mut all = BTreeSet::new();
    for rule in policy["spec"]["matchConstraints"]["resourceRules"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let (groups, versions) = (texts(&rule["apiGroups"]), texts(&rule["apiVersions"]));
        if wild(&groups) || wild(&versions) {
            continue;
        }
        for resource in texts(&rule["resources"]) {
            if resource.contains(['*', '/']) {
                continue;
            }
            for group in &groups {
                for version in &versions {
                    all.insert((group.clone(), version.clone(), resource.clone()));
                }
            }
        }
    }
    all.into_iter().take(MAX_TYPES).collect()
}

/// Group, version and kind of the parameters.
#[must_use]
pub fn param_kind(policy: &Value) -> Option<(&str, &str, &str)> {
    let kind = &policy["spec"]["paramKind"];
    let api_version = kind["apiVersion"].as_str()?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Some((group, version, kind["kind"].as_str()?))
}

fn shown(group: &str, version: &str, kind: &str) -> String {
    format!("{group}/{version}, Kind={kind}")
}

/// A built-in type by its plural.
#[must_use]
pub fn built_in((group, version, plural): &Named) -> Option<Typed> {
    let ty = registry().lookup(group, version, plural)?;
    Some(Typed {
        name: shown(group, version, &ty.kind),
        decl: declare(schema::schema().find(ty.schema)?),
    })
}

/// A built-in type by its kind.
#[must_use]
pub fn built_in_kind((group, version, kind): (&str, &str, &str)) -> Option<Typed> {
    let ty = registry().lookup_kind(group, version, kind)?;
    built_in(&(group.to_owned(), version.to_owned(), ty.plural.to_string()))
}

/// One version of a CustomResourceDefinition; `None`: it has no such version.
#[must_use]
pub fn custom(definition: &Value, version: &str) -> Option<Typed> {
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array()?;
    let own = versions
        .iter()
        .find(|own| own["name"] == version && own["served"] == true)?;
    let decl = custom::cel::declare(&own["schema"]["openAPIV3Schema"], true)?;
    let Shape::Object(object) = &decl.shape else {
        return None;
    };
    // Rules of a definition see two fields of the metadata, policies see all.
    let mut object = corten_cel::Object {
        name: object.name.clone(),
        fields: object.fields.clone(),
        open: object.open,
    };
    let metadata = declare(schema::schema().find("meta.v1.ObjectMeta")?);
    object.fields.get_mut("metadata")?.decl = metadata;
    Some(Typed {
        name: shown(spec["group"].as_str()?, version, spec["names"]["kind"].as_str()?),
        decl: Arc::new(Decl::new(
            Shape::Object(Arc::new(object)),
            decl.max_elements,
            decl.min_size,
        )),
    })
}

/// What does not fit, of the validations and of what makes their messages.
#[must_use]
pub fn check(policy: &Value, types: &[Typed], params: Option<&Typed>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let validations = policy["spec"]["validations"].as_array().into_iter().flatten();
    for (index, validation) in validations.enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = validation[field].as_str().unwrap_or_default();
            if source.is_empty() {
                continue;
            }
            let errors: Vec<String> = types
                .iter()
                .filter_map(|ty| Some(format!("{}: {}\n", ty.name, misfit(policy, source, ty, params)?)))
                .collect();
            if !errors.is_empty() {
                warnings.push(Warning {
                    field: format!("spec.validations[{index}].{field}"),
                    text: errors.join("\n"),
                });
            }
        }
    }
    warnings
}

/// The compiler's text for an expression about objects of a type.
fn misfit(policy: &Value, source: &str, ty: &Typed, params: Option<&Typed>) -> Option<String> {
    // Parameters of a type that nobody knows are not looked into.
    let params = policy["spec"]["paramKind"]
        .is_object()
        .then(|| params.map_or_else(|| Arc::new(Decl::DYN), |own| own.decl.clone()));
    let env = typed_environment(&ty.decl, params, true);
    let mut known: Vec<(String, Type)> = Vec::new();
    let variables = policy["spec"]["variables"].as_array().into_iter().flatten();
    for variable in variables.take(MAX_VARIABLES) {
        let text = |field: &str| variable[field].as_str().unwrap_or_default();
        let compiled = with_variables(&env, &known).compile(text("expression"));
        let ty = compiled.map_or(Type::Dyn, |program| program.ty);
        known.push((text("name").to_owned(), ty));
    }
    let compiled = with_variables(&env, &known).compile(source);
    compiled.err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(resources: Value, validations: Value, more: Value) -> Value {
        let mut spec =
            json!({ "matchConstraints": { "resourceRules": resources }, "validations": validations });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        json!({ "spec": spec })
    }

    fn rule(groups: &[&str], versions: &[&str], resources: &[&str]) -> Value {
        json!({ "apiGroups": groups, "apiVersions": versions, "resources": resources })
    }

    #[test]
    fn only_what_is_named_without_wildcards_is_checked() {
        let all = named(&policy(
            json!([
                rule(&["apps"], &["v1"], &["deployments", "deployments/scale", "*"]),
                rule(&[""], &["v1"], &["pods"]),
                rule(&["apps"], &["*"], &["statefulsets"]),
                rule(&["*"], &["v1"], &["jobs"]),
            ]),
            json!([]),
            json!({}),
        ));
        let all: Vec<&str> = all.iter().map(|(_, _, plural)| plural.as_str()).collect();
        assert_eq!(all, ["pods", "deployments"]);
        let many: Vec<String> = (0..30).map(|n| format!("things{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let all = named(&policy(
            json!([rule(&["g"], &["v1"], &many)]),
            json!([]),
            json!({}),
        ));
        assert_eq!(all.len(), MAX_TYPES);
    }

    /// `want`: the place of each warning and a part of its text.
    #[track_caller]
    fn expect(policy: &Value, params: Option<&Typed>, want: &[(&str, &str)]) {
        let types: Vec<Typed> = named(policy).iter().filter_map(built_in).collect();
        let found = check(policy, &types, params);
        let fields: Vec<&str> = found.iter().map(|warning| warning.field.as_str()).collect();
        let wanted: Vec<&str> = want.iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, wanted, "{found:#?}");
        for (warning, (_, text)) in found.iter().zip(want) {
            assert!(warning.text.contains(text), "{} has no {text}", warning.text);
        }
    }

    #[test]
    fn expressions_that_do_not_fit_are_told_as_upstream_does() {
        let deployments = || json!([rule(&["apps"], &["v1"], &["deployments"])]);
        let one = |expression: &str| policy(deployments(), json!([{ "expression": expression }]), json!({}));
        expect(&one("object.spec.replicas > 1"), None, &[]);
        expect(
            &one("authorizer.group('').resource('endpoints').check('create').allowed()"),
            None,
            &[],
        );
        expect(
            &one("authorizer.requestResource.check('create').allowed()"),
            None,
            &[],
        );
        expect(
            &one("oldObject == null || has(object.metadata.labels)"),
            None,
            &[],
        );
        let field = "spec.validations[0].expression";
        let wrong = one("object.spec.replicas > '1'");
        let types: Vec<Typed> = named(&wrong).iter().filter_map(built_in).collect();
        assert_eq!(
            check(&wrong, &types, None)[0].text,
            "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n"
        );
        let twice = one("object.spec.replicas > '1' && object.spec.nonExisting == 1");
        expect(&twice, None, &[(field, "undefined field 'nonExisting'")]);
        expect(&twice, None, &[(field, "found no matching overload for '_>_'")]);
        expect(
            &one("authorizer.allowed()"),
            None,
            &[(
                field,
                "found no matching overload for 'allowed' applied to 'kubernetes.authorization.Authorizer",
            )],
        );
        expect(
            &policy(
                deployments(),
                json!([{ "expression": "true", "messageExpression": "object.foo + 1" }]),
                json!({}),
            ),
            None,
            &[("spec.validations[0].messageExpression", "undefined field 'foo'")],
        );
        let two = json!([
            rule(&["apps"], &["v1"], &["deployments"]),
            rule(&[""], &["v1"], &["pods"])
        ]);
        expect(
            &policy(
                two,
                json!([{ "expression": "object.spec.replicas > 1" }]),
                json!({}),
            ),
            None,
            &[(
                field,
                "/v1, Kind=Pod: ERROR: <input>:1:12: undefined field 'replicas'",
            )],
        );
        let unknown = json!([rule(&["example.com"], &["v1"], &["foos"])]);
        expect(
            &policy(unknown, json!([{ "expression": "object.x" }]), json!({})),
            None,
            &[],
        );
    }

    #[test]
    fn variables_and_parameters_have_types() {
        let with = |expression: &str, more: Value| {
            let rules = json!([rule(&["apps"], &["v1"], &["deployments"])]);
            policy(rules, json!([{ "expression": expression }]), more)
        };
        let field = "spec.validations[0].expression";
        let variables = json!({ "variables": [{ "name": "n", "expression": "object.spec.replicas" },
            { "name": "m", "expression": "variables.n + 1" }] });
        expect(&with("variables.m > 1", variables.clone()), None, &[]);
        expect(
            &with("variables.m == 'x'", variables.clone()),
            None,
            &[(field, "'_==_' applied to '(int, string)'")],
        );
        expect(
            &with("variables.k == 1", variables),
            None,
            &[(field, "undefined field 'k'")],
        );
        let kind = json!({ "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" } });
        let asks = with("params.data.max == 'x' && params.bar == 1", kind);
        let params = param_kind(&asks).and_then(built_in_kind).expect("built in");
        expect(&asks, Some(&params), &[(field, "undefined field 'bar'")]);
        let kind = json!({ "paramKind": { "apiVersion": "g/v1", "kind": "Unknown" } });
        expect(&with("params.anything == 1", kind), None, &[]);
    }

    #[test]
    fn a_custom_resource_has_the_types_of_its_schema_and_whole_metadata() {
        let schema = json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": { "size": { "type": "integer" } } } } });
        let definition = json!({ "spec": { "group": "g.io", "names": { "kind": "Foo" },
            "versions": [{ "name": "v1", "served": true, "schema": { "openAPIV3Schema": schema } }] } });
        assert!(custom(&definition, "v2").is_none());
        let ty = custom(&definition, "v1").expect("it is served");
        let expressions = json!([
            { "expression": "object.spec.size > 1 && object.metadata.labels['a'] == 'b'" },
            { "expression": "object.spec.sise > 1" },
        ]);
        let found = check(&policy(json!([]), expressions, json!({})), &[ty], None);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].field, "spec.validations[1].expression");
        assert!(
            found[0]
                .text
                .starts_with("g.io/v1, Kind=Foo: ERROR: <input>:1:12: undefined field 'sise'"),
            "{}",
            found[0].text
        );
    }
}
