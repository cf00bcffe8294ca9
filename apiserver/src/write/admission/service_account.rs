//! ServiceAccount: a Pod has an account, and the account exists. Pure.

use corten_api::{Status, meta};
use corten_store::Snapshot;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::key::Keys;

const SERVICE_ACCOUNTS: Keys<'static> = Keys {
    group: "",
    resource: "serviceaccounts",
    namespaced: true,
};
const MIRROR: &str = "kubernetes.io/config.mirror";

/// # Errors
/// None; the signature is that of a plug-in.
pub fn mutate(attributes: &Attributes<'_>, _: &Snapshot, object: &mut Value) -> Result<(), Status> {
    let creates_pod = attributes.operation == Operation::Create && attributes.is("", "pods");
    // A mirror Pod stands for what runs already: it has no account.
    if creates_pod && meta::annotation(object, MIRROR).is_none() {
        name_account(object);
    }
    Ok(())
}

fn name_account(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let text = |spec: &serde_json::Map<String, Value>, key: &str| {
        spec.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let account = match (text(spec, "serviceAccountName"), text(spec, "serviceAccount")) {
        (name, _) if !name.is_empty() => name,
        (_, name) if !name.is_empty() => name,
        _ => "default".to_owned(),
    };
    spec.insert("serviceAccountName".into(), account.clone().into());
    spec.insert("serviceAccount".into(), account.into());
}

/// # Errors
/// `Forbidden` with upstream's text for an account that does not exist.
pub fn validate(attributes: &Attributes<'_>, snapshot: &Snapshot, object: &Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create || !attributes.is("", "pods") {
        return Ok(());
    }
    if meta::annotation(object, MIRROR).is_some() {
        return Ok(());
    }
    let account = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    let namespace = attributes.subject.namespace;
    match snapshot.get(&SERVICE_ACCOUNTS.object(Some(namespace), account)) {
        Some(_) => Ok(()),
        None => Err(attributes.forbidden(format!(
            "error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_gets_an_account() {
        let mut pod = json!({ "metadata": { "name": "a" }, "spec": { "containers": [] } });
        name_account(&mut pod);
        assert_eq!(pod["spec"]["serviceAccountName"], "default");
        assert_eq!(pod["spec"]["serviceAccount"], "default");
        let mut old = json!({ "spec": { "serviceAccount": "x" } });
        name_account(&mut old);
        assert_eq!(old["spec"]["serviceAccountName"], "x");
    }
}
