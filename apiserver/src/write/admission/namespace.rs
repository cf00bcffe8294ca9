//! What is born with a Namespace: its own name as a label, the finalizer of its contents, its default ServiceAccount and
//! the cluster's CA. Pure.

use corten_api::resource::CreateContext;
use corten_api::{Status, meta, registry};
use corten_store::{Op, Precondition, Snapshot};
use serde_json::{Value, json};

use super::super::{Env, Subject};
use super::Attributes;
use crate::Config;

/// ConfigMap with the cluster's CA in every namespace. Source: Kubernetes root-ca-cert-publisher.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";

/// Fills in what every Namespace has.
///
/// # Errors
/// None; the signature is that of a plug-in.
pub fn mutate(attributes: &Attributes<'_>, _: &Snapshot, object: &mut Value) -> Result<(), Status> {
    if attributes.operation == super::Operation::Create && attributes.is("", "namespaces") {
        mutate_namespace(object);
    }
    Ok(())
}

fn mutate_namespace(object: &mut Value) {
    let name = meta::name(object).to_owned();
    if name.is_empty() || !object["metadata"]["labels"].is_null() && !object["metadata"]["labels"].is_object()
    {
        return; // generateName: the label follows at the end of preparation; a wrong type is refused by decoding
    }
    object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
    if object["spec"].is_null() {
        object["spec"] = json!({});
    }
    let Some(spec) = object["spec"].as_object_mut() else {
        return;
    };
    let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && !list.iter().any(|f| f == "kubernetes")
    {
        list.push("kubernetes".into());
    }
}

/// The writes that make a namespace's default ServiceAccount and the cluster's CA. One left over from before is kept.
///
/// # Errors
/// Never for our own objects; the signature is that of preparation.
pub fn contents(
    config: &Config,
    snapshot: &Snapshot,
    namespace: &str,
    env: &mut Env,
    preconditions: &mut Vec<Precondition>,
) -> Result<Vec<Op>, Status> {
    let contents = [
        ("serviceaccounts", json!({ "metadata": { "name": "default" } })),
        (
            "configmaps",
            json!({
                "metadata": {
                    "name": ROOT_CA_CONFIG_MAP,
                    "annotations": {
                        "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
                    },
                },
                "data": { "ca.crt": &*config.ca.bundle() },
            }),
        ),
    ];
    let mut ops = Vec::with_capacity(contents.len());
    for (plural, mut object) in contents {
        let ty = registry()
            .lookup("", "v1", plural)
            .expect("ServiceAccounts and ConfigMaps are built in");
        let subject = Subject { ty, namespace };
        let uid = env.uid();
        ty.prepare_create(
            &mut object,
            &CreateContext {
                namespace,
                uid: &uid,
                now: env.now,
                name_suffix: "",
            },
        )?;
        let key = subject.key(meta::name(&object));
        if snapshot.get(&key).is_none() {
            preconditions.push(Precondition::Absent(key.clone()));
            ops.push(Op::Put {
                value: subject.encode(&object),
                key,
            });
        }
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_names_itself_and_waits_for_its_finalizer() {
        let mut namespace = json!({ "metadata": { "name": "a" } });
        mutate_namespace(&mut namespace);
        assert_eq!(
            namespace["metadata"]["labels"]["kubernetes.io/metadata.name"],
            "a"
        );
        assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    }
}
