//! What upstream makes of expressions, in each environment that Kubernetes 1.36 has.

mod common;

use std::sync::Arc;

use corten_cel::{Decl, Env, Type};

/// Three signs, `+` where the expression compiles and `-` where it is refused: among the rules of a custom resource, in a
/// policy, in a mutation of one. Below it what the first of them makes of it: a value as JSON, an error, or what is wrong.
/// Made with `apiserver/pkg/cel/environment` and `apiserver/pkg/admission/plugin/cel` of v1.36.3.
const FACTS: &str = include_str!("upstream-1.36.txt");

fn policy() -> Env {
    let host = |name| Arc::new(Decl::of(Type::Opaque(name)));
    let dynamic = || Arc::new(Decl::DYN);
    Env::new([
        ("object", dynamic()),
        ("oldObject", dynamic()),
        ("params", dynamic()),
    ])
    .with("request", dynamic())
    .with("namespaceObject", dynamic())
    .with("authorizer", host("kubernetes.authorization.Authorizer"))
}

#[test]
fn expressions_are_judged_and_evaluated_as_upstream() {
    let (rule, policy) = (common::env(), policy());
    let mutation = policy.clone().with_constructors();
    let mut lines = FACTS.lines();
    let (mut count, mut wrong) = (0, Vec::new());
    while let Some(head) = lines.next() {
        let (signs, expression) = head.split_once(' ').expect("signs");
        let wanted = lines
            .next()
            .and_then(|line| line.strip_prefix('\t'))
            .expect("a result");
        let found: String = [&rule, &policy, &mutation]
            .map(|env| if env.compile(expression).is_ok() { '+' } else { '-' })
            .iter()
            .collect();
        let shown = common::shown(expression).replace('\n', "\\n");
        let wanted_shown = wanted.strip_prefix("refused ").unwrap_or(wanted);
        if found != signs || shown != wanted_shown {
            wrong.push(format!(
                "{signs} {found} {expression}\n  there {wanted_shown}\n  here  {shown}"
            ));
        }
        count += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
