//! Expressions of policies and match conditions, evaluated on one request. Pure but for the authorizer, which looks at
//! the rules this server has.
//!
//! Source: Kubernetes `apiserver/pkg/admission/plugin/cel`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use corten_api::ResourceType;
use corten_api::kinds::admissionregistration::expressions;
use corten_cel::{
    Authorize, Bindings, Check, Decision, Env, Eval, EvalError, Fields, Limits, Map, Opaque, PER_CALL_LIMIT,
    Program, RUNTIME_BUDGET, Subject, Type, Value,
};
use serde_json::Value as Json;

use crate::ApiServer;
use crate::authorize::Attributes as Asked;
use crate::identity::User;
use crate::webhooks::review;
use crate::write::admission::Attributes;

/// What every evaluation that comes after the budget is used up says.
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// An expression with its text; one that cannot be compiled fails whenever it is evaluated.
#[derive(Debug)]
pub struct Expression {
    pub source: String,
    program: Result<Program, String>,
}

impl Expression {
    #[must_use]
    pub fn new(env: &Env, source: &str) -> Expression {
        let compiled = env.compile(source);
        Expression {
            source: source.to_owned(),
            program: compiled.map_err(|error| format!("compilation error: compilation failed: {error}")),
        }
    }

    fn ty(&self) -> Type {
        self.program
            .as_ref()
            .map_or(Type::Dyn, |program| program.ty.clone())
    }

    /// The expression's value, within what is left of the request's budget.
    ///
    /// # Errors
    /// Upstream's text.
    pub fn eval<'a>(
        &'a self,
        input: &Input<'a>,
        variables: Option<&'a Variables<'a>>,
    ) -> Result<Value<'a>, String> {
        self.run(input, variables)?
            .map_err(|error| format!("expression '{}' resulted in error: {error}", self.source))
    }

    /// # Errors
    /// The text of why it cannot be run.
    fn run<'a>(
        &'a self,
        input: &Input<'a>,
        variables: Option<&'a Variables<'a>>,
    ) -> Result<Eval<Value<'a>>, String> {
        let program = self.program.as_ref().map_err(Clone::clone)?;
        let left = input.budget.load(Ordering::Relaxed);
        if left == 0 {
            return Err(OUT_OF_BUDGET.into());
        }
        let limits = Limits {
            cost: PER_CALL_LIMIT.min(left),
            cancelled: None,
        };
        let (value, cost) = program.eval(&input.bindings(variables), limits);
        // Variables that were asked for meanwhile took their part.
        let left = input.budget.load(Ordering::Relaxed);
        input.budget.store(left.saturating_sub(cost), Ordering::Relaxed);
        if cost > left {
            return Err(OUT_OF_BUDGET.into());
        }
        Ok(value)
    }
}

/// What expressions look at.
pub struct Input<'a> {
    pub object: &'a Json,
    pub old: &'a Json,
    pub request: &'a Json,
    pub params: &'a Json,
    pub namespace: &'a Json,
    pub authority: &'a Authority<'a>,
    /// One thread uses it; it is atomic because expressions may be run on any.
    budget: AtomicU64,
}

impl<'a> Input<'a> {
    #[must_use]
    pub fn new(
        [object, old, request, params, namespace]: [&'a Json; 5],
        authority: &'a Authority<'a>,
    ) -> Input<'a> {
        Input {
            object,
            old,
            request,
            params,
            namespace,
            authority,
            budget: AtomicU64::new(RUNTIME_BUDGET),
        }
    }

    fn bindings(&self, variables: Option<&'a Variables<'a>>) -> Bindings<'a> {
        let request = Value::from_json(self.request, expressions::request()).unwrap_or(Value::Null);
        let namespace = Value::from_json(self.namespace, expressions::namespace()).unwrap_or(Value::Null);
        let authority: &'a dyn Authorize = self.authority;
        let mut values = vec![
            Some(Value::dynamic(self.object)),
            Some(Value::dynamic(self.old)),
            Some(request),
            Some(Value::dynamic(self.params)),
            Some(namespace),
            Some(Value::Opaque(Opaque::Authorizer(
                authority,
                Arc::new(Subject::Requester),
            ))),
            Some(Value::Opaque(Opaque::ResourceCheck(
                authority,
                self.authority.request_resource.clone(),
            ))),
        ];
        values.extend(variables.map(|variables| Some(Value::Map(Map::Host(variables)))));
        Bindings::new(values)
    }
}

/// The variables of a policy on one request. Each is evaluated when it is first asked for, once; its cost is the request's.
/// One without a value has the error that came of it.
pub struct Variables<'a> {
    definitions: &'a [(String, Expression)],
    input: &'a Input<'a>,
    values: Vec<OnceLock<Eval<Value<'a>>>>,
    /// Itself: what a variable's expression is given to find the others.
    own: OnceLock<&'a Variables<'a>>,
}

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.definitions.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl<'a> Variables<'a> {
    /// Those of one request. They have no values before they are [`tied`](Variables::tied).
    #[must_use]
    pub fn new(definitions: &'a Definitions, input: &'a Input<'a>) -> Variables<'a> {
        Variables {
            definitions: &definitions.0,
            input,
            values: definitions.0.iter().map(|_| OnceLock::new()).collect(),
            own: OnceLock::new(),
        }
    }

    /// Able to find each other, for the rest of their life.
    #[must_use]
    pub fn tied(&'a self) -> &'a Variables<'a> {
        self.own.get_or_init(|| self)
    }

    fn evaluate(&'a self, name: &str, expression: &'a Expression) -> Eval<Value<'a>> {
        let failed = |text: String| Err(EvalError::new(text));
        if let Err(error) = &expression.program {
            return failed(format!(
                "composited variable \"{name}\" fails to compile: {error}"
            ));
        }
        match expression.run(self.input, Some(self)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => failed(format!(
                "composited variable \"{name}\" fails to evaluate: {error}"
            )),
            Err(text) => failed(text),
        }
    }
}

impl Fields for Variables<'_> {
    fn field(&self, name: &str) -> Option<Eval<Value<'_>>> {
        let own = *self.own.get()?;
        // An expression is compiled with the variables before its own only, so no value waits for itself.
        let idx = own.definitions.iter().position(|(known, _)| known == name)?;
        let expression = &own.definitions[idx].1;
        Some(
            own.values[idx]
                .get_or_init(|| own.evaluate(name, expression))
                .clone(),
        )
    }
}

/// A policy's own variables, each of which may name those before it.
#[derive(Debug, Default)]
pub struct Definitions(Vec<(String, Expression)>);

impl Definitions {
    /// Also returns their names and types.
    #[must_use]
    pub fn new(env: &Env, list: &Json) -> (Definitions, Vec<(String, Type)>) {
        let mut types: Vec<(String, Type)> = Vec::new();
        let mut all = Vec::new();
        let list = list.as_array().into_iter().flatten();
        for variable in list.take(expressions::MAX_VARIABLES) {
            let text = |field: &str| variable[field].as_str().unwrap_or_default();
            let expression = Expression::new(&expressions::with_variables(env, &types), text("expression"));
            types.push((text("name").to_owned(), expression.ty()));
            all.push((text("name").to_owned(), expression));
        }
        (Definitions(all), types)
    }
}

/// Answers an expression's `authorizer`, on behalf of the request's user.
pub struct Authority<'a> {
    server: Option<ApiServer>,
    user: &'a User,
    request_resource: Arc<Check>,
}

impl<'a> Authority<'a> {
    #[must_use]
    pub fn new(server: Option<ApiServer>, attributes: &Attributes<'a>, ty: &ResourceType) -> Authority<'a> {
        Authority {
            server,
            user: attributes.user,
            request_resource: Arc::new(Check {
                group: ty.group.to_string(),
                resource: ty.plural.to_string(),
                subresource: attributes.subresource.to_owned(),
                namespace: attributes.subject.namespace.to_owned(),
                name: attributes.name.to_owned(),
                ..Check::default()
            }),
        }
    }
}

impl Authorize for Authority<'_> {
    fn authorize(&self, check: &Check, verb: &str) -> Decision {
        let Some(server) = &self.server else {
            return Decision {
                error: Some("the server is shutting down".into()),
                ..Decision::default()
            };
        };
        let account;
        let user = match &check.subject {
            Subject::Requester => self.user,
            Subject::ServiceAccount { namespace, name } => {
                let groups = [
                    "system:serviceaccounts",
                    &*format!("system:serviceaccounts:{namespace}"),
                ];
                account = User::new(format!("system:serviceaccount:{namespace}:{name}"), &groups);
                &account
            }
        };
        let asked = match check.path.is_empty() {
            false => Asked::path(user, verb, &check.path),
            true => Asked {
                subresource: &check.subresource,
                namespace: &check.namespace,
                name: &check.name,
                ..Asked::resource(user, verb, &check.group, &check.resource)
            },
        };
        let verdict = server.authorize_now(&asked);
        Decision {
            allowed: verdict.allowed(),
            reason: verdict.reason.to_string(),
            error: None,
        }
    }
}

/// The `request` of an expression.
#[must_use]
pub fn request(attributes: &Attributes<'_>, ty: &ResourceType) -> Json {
    let mut request = review::request(attributes, ty, &Json::Null, &Json::Null);
    request.remove("object");
    request.remove("oldObject");
    for field in ["name", "namespace", "subResource", "requestSubResource"] {
        request.entry(field).or_insert_with(|| "".into());
    }
    Json::Object(request)
}

/// What expressions may see of the namespace. Source: `cel.CreateNamespaceObject`.
#[must_use]
pub fn namespace(namespace: &Json) -> Json {
    let mut metadata = namespace["metadata"].clone();
    if let Some(map) = metadata.as_object_mut() {
        map.remove("managedFields");
        map.remove("ownerReferences");
    }
    let mut shown = serde_json::json!({ "metadata": metadata, "spec": {}, "status": {} });
    for (part, field) in [
        ("spec", "finalizers"),
        ("status", "phase"),
        ("status", "conditions"),
    ] {
        let value = &namespace[part][field];
        if !value.is_null() {
            shown[part][field] = value.clone();
        }
    }
    shown
}

/// Conditions of which all must hold.
#[derive(Debug, Default)]
pub struct Conditions(Vec<Expression>);

impl Conditions {
    #[must_use]
    pub fn new(env: &Env, list: &Json) -> Conditions {
        let list = list.as_array().into_iter().flatten();
        let text = |condition: &Json| condition["expression"].as_str().unwrap_or_default().to_owned();
        Conditions(
            list.map(|condition| Expression::new(env, &text(condition)))
                .collect(),
        )
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that is false outweighs those that fail.
    ///
    /// # Errors
    /// What failed, when none was false.
    pub fn hold<'a>(
        &'a self,
        input: &Input<'a>,
        variables: Option<&'a Variables<'a>>,
    ) -> Result<bool, String> {
        let mut errors: Vec<String> = Vec::new();
        for condition in &self.0 {
            match judge(condition, input, variables) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => errors.push(error),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            all => Err(format!("[{}]", all.join(", "))),
        }
    }
}

/// # Errors
/// Upstream's text.
pub fn judge<'a>(
    condition: &'a Expression,
    input: &Input<'a>,
    variables: Option<&'a Variables<'a>>,
) -> Result<bool, String> {
    match condition.eval(input, variables)? {
        Value::Bool(own) => Ok(own),
        _ => Ok(false),
    }
}
