//! What the server itself keeps right about the objects of flow control: the `Dangling` condition of FlowSchemas, and that
//! the mandatory objects exist. Source: Kubernetes `flowcontrol.presyncFlowSchemaStatus`.

use corten_api::kinds::flowcontrol::suggested;
use corten_api::resource::Subresource;
use corten_api::{Status, meta, registry, time};
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::GROUP;
use super::config::MANDATORY;
use crate::write::{Answered, Decision, Env, Payload, Subject, transact, update};
use crate::{ApiServer, Inner};

/// Something has to be mended: what `server` follows says so.
pub fn mend<'a>(
    server: &Inner,
    levels: impl Iterator<Item = &'a Value> + Clone,
    mut schemas: impl Iterator<Item = &'a Value> + Clone,
) {
    if !server.bootstrapped.load(std::sync::atomic::Ordering::Acquire) {
        return; // bootstrap does it in its course
    }
    let missing = |mut objects: Box<dyn Iterator<Item = &'a Value> + '_>, name: &str| {
        !objects.any(|o| meta::name(o) == name)
    };
    let wrong = MANDATORY
        .iter()
        .any(|name| missing(Box::new(levels.clone()), name) || missing(Box::new(schemas.clone()), name))
        || schemas.any(|schema| {
            let exists = levels.clone().any(|level| meta::name(level) == level_of(schema));
            mended(schema, exists, Timestamp::UNIX_EPOCH).is_some()
        });
    if wrong && let Some(inner) = server.me.upgrade() {
        tokio::spawn(async move { ApiServer(inner).mend_flow().await });
    }
}

fn level_of(schema: &Value) -> &str {
    schema["spec"]["priorityLevelConfiguration"]["name"]
        .as_str()
        .unwrap_or_default()
}

/// The schema with the right condition; `None`: it has it.
fn mended(schema: &Value, exists: bool, now: Timestamp) -> Option<Value> {
    let level = level_of(schema);
    let (status, reason, message) = if exists {
        let told = format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists"
        );
        ("False", "Found", told)
    } else {
        let told = format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?} but there is no such object"
        );
        ("True", "NotFound", told)
    };
    let conditions = schema["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let before = conditions
        .iter()
        .find(|condition| condition["type"] == "Dangling");
    if before.is_some_and(|c| c["status"] == status && c["reason"] == reason && c["message"] == message) {
        return None;
    }
    let since = match before.filter(|before| before["status"] == status) {
        Some(before) => before["lastTransitionTime"].clone(),
        None => time::format_time(now).into(),
    };
    let mut conditions: Vec<Value> = conditions
        .into_iter()
        .filter(|c| c["type"] != "Dangling")
        .collect();
    conditions.push(json!({
        "type": "Dangling",
        "status": status,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }));
    let mut schema = schema.clone();
    schema["status"]["conditions"] = conditions.into();
    Some(schema)
}

impl ApiServer {
    /// Makes the mandatory objects that are missing, and puts conditions right.
    pub(crate) async fn mend_flow(&self) {
        let both = [
            ("prioritylevelconfigurations", suggested::priority_levels()),
            ("flowschemas", suggested::flow_schemas()),
        ];
        for (plural, objects) in both {
            for object in objects
                .iter()
                .filter(|object| MANDATORY.contains(&meta::name(object)))
            {
                if let Err(error) = self.ensure(GROUP, plural, "", object.clone(), false).await {
                    tracing::warn!(%error, "a mandatory object of flow control is missing");
                }
            }
        }
        let [levels, schemas] = ["prioritylevelconfigurations", "flowschemas"].map(|plural| {
            let ty = registry().lookup(GROUP, "v1", plural);
            Subject {
                ty: ty.expect("the kinds of flow control are built in"),
                namespace: "",
            }
        });
        let snapshot = self.inner().store.snapshot();
        let names: Vec<String> = snapshot
            .range(schemas.keys().range(None))
            .filter_map(|entry| Some(meta::name(&schemas.parse(&entry).ok()?).to_owned()))
            .collect();
        let config = &self.inner().config;
        // All at once: they share the store's next write to disk.
        let written = join_all(names.iter().map(|name| async move {
            let mut env = Env::new(Timestamp::now());
            let written = transact(self.inner(), &mut env, |snapshot, env| {
                let schema = schemas.read(snapshot, name)?.value;
                let exists = snapshot.get(&levels.key(level_of(&schema))).is_some();
                match mended(&schema, exists, env.now) {
                    Some(schema) => {
                        update::decide(config, schemas, snapshot, name, schema, Subresource::Status, env)
                    }
                    None => Ok(Decision::Nothing(Answered {
                        code: http::StatusCode::OK,
                        payload: Payload::Value(Value::Null),
                        warnings: Vec::new(),
                    })),
                }
            });
            written.await.map(|_| ())
        }));
        let failed: Vec<Status> = written.await.into_iter().filter_map(Result::err).collect();
        if let Some(status) = failed.iter().find(|status| !status.is_not_found()) {
            tracing::warn!(%status, "the condition of a FlowSchema was not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_changes_once() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let schema = json!({ "spec": { "priorityLevelConfiguration": { "name": "l" } } });
        let found = mended(&schema, true, at(1)).expect("a change");
        let condition = &found["status"]["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("False"), &json!("Found"))
        );
        assert_eq!(mended(&found, true, at(2)), None);
        let dangling = mended(&found, false, at(3)).expect("a change");
        let condition = &dangling["status"]["conditions"][0];
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:03Z");
        assert_eq!(
            condition["message"],
            "This FlowSchema references the PriorityLevelConfiguration object named \"l\" but there is no such object"
        );
        assert_eq!(dangling["status"]["conditions"].as_array().map(Vec::len), Some(1));
    }
}
