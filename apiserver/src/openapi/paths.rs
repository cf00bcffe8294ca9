//! Paths and operations of a resource, in the form of OpenAPI v3. Pure.

use corten_api::resource::{SubresourceType, TypeRef};
use serde_json::{Map, Value, json};

use super::definitions::reference;
use super::gvk;
use super::names::{custom_name, full_name, group_word, pascal};
use super::texts::Texts;
use crate::negotiate::{MEDIA_TYPES, WATCH_TYPES};

/// `api/v1`, `apis/apps/v1`.
pub fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "orphanDependents",
    "propagationPolicy",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const LOG: &[&str] = &[
    "container",
    "follow",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];
const ATTACH: &[&str] = &["container", "stderr", "stdin", "stdout", "tty"];
const EXEC: &[&str] = &["command", "container", "stderr", "stdin", "stdout", "tty"];

/// Makes the paths of one resource.
struct Maker<'a> {
    ty: &'a TypeRef,
    texts: &'a Texts,
    /// `CoreV1`.
    group: String,
    /// The full name of the kind.
    name: String,
}

/// All paths of a resource and of its subresources.
pub fn paths(ty: &TypeRef, texts: &Texts) -> Vec<(String, Value)> {
    let name = match ty.type_facts() {
        Some(entry) => full_name(entry.name),
        None => custom_name(&ty.group, &ty.version, &ty.kind),
    };
    let group = group_word(&ty.group) + &pascal(&ty.version);
    Maker {
        ty,
        texts,
        group,
        name,
    }
    .paths()
}

impl Maker<'_> {
    fn paths(&self) -> Vec<(String, Value)> {
        let ty = self.ty;
        let base = format!("/{}", path_of(&ty.group, &ty.version));
        let scope = if ty.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let collection = format!("{base}{scope}/{}", ty.plural);
        let mut out = Vec::new();
        if ty.namespaced && ty.supports("list") {
            let id = format!("list{}{}ForAllNamespaces", self.group, ty.kind);
            let list = Map::from_iter([("get".to_owned(), self.list(&id))]);
            out.push((format!("{base}/{}", ty.plural), self.item(list, &[])));
        }
        let (mut many, mut one) = (Map::new(), Map::new());
        for verb in ty.verbs {
            match *verb {
                "list" => many.insert("get".into(), self.list(&self.id("list", "", ""))),
                "create" => many.insert("post".into(), self.create("", &self.name)),
                "deletecollection" => many.insert("delete".into(), self.delete_collection()),
                "get" => one.insert("get".into(), self.read("", &self.name)),
                "update" => one.insert("put".into(), self.replace("", &self.name)),
                "patch" => one.insert("patch".into(), self.patch("", &self.name)),
                "delete" => one.insert("delete".into(), self.delete()),
                _ => None, // watch is a list with watch=1
            };
        }
        let namespace: &[&str] = if ty.namespaced { &["namespace"] } else { &[] };
        if !many.is_empty() {
            out.push((collection.clone(), self.item(many, namespace)));
        }
        let names = [&["name"], namespace].concat();
        if !one.is_empty() {
            out.push((format!("{collection}/{{name}}"), self.item(one, &names)));
        }
        for sub in ty.subresources {
            let item = self.item(self.subresource(sub), &names);
            out.push((format!("{collection}/{{name}}/{}", sub.name), item));
        }
        out
    }

    fn subresource(&self, sub: &SubresourceType) -> Map<String, Value> {
        let (group, version, kind) = self.ty.body_of(sub);
        let known = |own: &&corten_api::schema::Type| own.gvks.contains(&(group, version, kind));
        let body = match corten_api::schema::schema().types().iter().find(known) {
            Some(entry) => full_name(entry.name),
            None => self.name.clone(),
        };
        let mut out = Map::new();
        if matches!(sub.name, "exec" | "attach" | "portforward" | "proxy") {
            for method in ["get", "post"] {
                out.insert(method.into(), self.connect(sub.name, method));
            }
            return out;
        }
        for verb in sub.verbs {
            match *verb {
                "get" if sub.name == "log" => out.insert("get".into(), self.log()),
                "get" => out.insert("get".into(), self.read(sub.name, &body)),
                "create" => out.insert("post".into(), self.create(sub.name, &body)),
                "update" => out.insert("put".into(), self.replace(sub.name, &body)),
                "patch" => out.insert("patch".into(), self.patch(sub.name, &body)),
                _ => None,
            };
        }
        // A body of another kind is what generated clients are told about.
        for operation in out.values_mut() {
            operation["x-kubernetes-group-version-kind"] = gvk(group, version, kind);
        }
        out
    }

    /// `readCoreV1NamespacedPodStatus`.
    fn id(&self, verb: &str, collection: &str, sub: &str) -> String {
        let scope = if self.ty.namespaced { "Namespaced" } else { "" };
        let (group, kind) = (&self.group, &self.ty.kind);
        format!("{verb}{group}{collection}{scope}{kind}{}", pascal(sub))
    }

    fn item(&self, mut operations: Map<String, Value>, path: &[&str]) -> Value {
        let mut parameters: Vec<Value> = path.iter().map(|name| self.parameter(name, "path")).collect();
        parameters.push(self.parameter("pretty", "query"));
        operations.insert("parameters".into(), Value::Array(parameters));
        Value::Object(operations)
    }

    fn parameter(&self, name: &str, place: &str) -> Value {
        let kind = match name {
            "allowWatchBookmarks"
            | "force"
            | "orphanDependents"
            | "sendInitialEvents"
            | "watch"
            | "follow"
            | "previous"
            | "timestamps"
            | "stderr"
            | "stdin"
            | "stdout"
            | "tty" => "boolean",
            "gracePeriodSeconds" | "limit" | "timeoutSeconds" | "limitBytes" | "sinceSeconds"
            | "tailLines" | "ports" => "integer",
            _ => "string",
        };
        let mut own = json!({ "name": name, "in": place, "schema": { "type": kind, "uniqueItems": true } });
        if name == "name" {
            own["description"] = format!("name of the {}", self.ty.kind).into();
        } else if let Some(text) = self.texts.parameter(name) {
            own["description"] = text.clone();
        }
        if place == "path" {
            own["required"] = true.into();
        }
        own
    }

    fn operation(&self, id: String, action: &str, text: String, parameters: &[&str]) -> Value {
        let ty = self.ty;
        let word = group_word(&ty.group);
        let tag = format!("{}{}_{}", word[..1].to_ascii_lowercase(), &word[1..], ty.version);
        let mut own = json!({
            "description": text,
            "operationId": id,
            "responses": { "401": { "description": "Unauthorized" } },
            "tags": [tag],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk(&ty.group, &ty.version, &ty.kind),
        });
        if !parameters.is_empty() {
            own["parameters"] = parameters
                .iter()
                .map(|name| self.parameter(name, "query"))
                .collect();
        }
        own
    }

    fn answers(&self, own: &mut Value, codes: &[(&str, &str)], name: &str, watch: bool) {
        let protobuf = self.ty.type_facts().is_some();
        let types = MEDIA_TYPES.iter().chain(WATCH_TYPES.iter().filter(|_| watch));
        let content: Map<String, Value> = types
            .filter(|media| protobuf || !media.contains("protobuf"))
            .map(|media| ((*media).to_owned(), json!({ "schema": reference(name) })))
            .collect();
        for (code, text) in codes {
            own["responses"][*code] = json!({ "description": text, "content": content });
        }
    }

    fn body(&self, own: &mut Value, media: &str, schema: Value, required: bool) {
        own["requestBody"]["content"][media] = json!({ "schema": schema });
        if required {
            own["requestBody"]["required"] = true.into();
        }
    }

    fn list(&self, id: &str) -> Value {
        let verbs = if self.ty.supports("watch") {
            "list or watch"
        } else {
            "list"
        };
        let text = format!("{verbs} objects of kind {}", self.ty.kind);
        let mut own = self.operation(id.to_owned(), "list", text, LIST);
        self.answers(&mut own, &[("200", "OK")], &format!("{}List", self.name), true);
        own
    }

    fn create(&self, sub: &str, name: &str) -> Value {
        let kind = self.with_article();
        let text = match sub {
            "" => format!("create {kind}"),
            sub => format!("create {sub} of {kind}"),
        };
        let mut own = self.operation(self.id("create", "", sub), "post", text, WRITE);
        self.body(&mut own, "*/*", reference(name), true);
        let codes = [("200", "OK"), ("201", "Created"), ("202", "Accepted")];
        self.answers(&mut own, &codes, name, false);
        own
    }

    /// `a Pod`, `an Event`, `Endpoints`. Source: Kubernetes `GetArticleForNoun`.
    fn with_article(&self) -> String {
        let kind = &self.ty.kind;
        match kind.chars().next() {
            _ if kind.ends_with('s') && !kind.ends_with("ss") => kind.to_string(),
            Some('A' | 'E' | 'I' | 'O' | 'U') => format!("an {kind}"),
            _ => format!("a {kind}"),
        }
    }

    /// `the specified Pod`, `status of the specified Pod`.
    fn specified(&self, verb: &str, sub: &str) -> String {
        let of = if sub.is_empty() {
            String::new()
        } else {
            format!("{sub} of ")
        };
        format!("{verb} {of}the specified {}", self.ty.kind)
    }

    fn read(&self, sub: &str, name: &str) -> Value {
        let mut own = self.operation(self.id("read", "", sub), "get", self.specified("read", sub), &[]);
        self.answers(&mut own, &[("200", "OK")], name, false);
        own
    }

    fn replace(&self, sub: &str, name: &str) -> Value {
        let text = self.specified("replace", sub);
        let mut own = self.operation(self.id("replace", "", sub), "put", text, WRITE);
        self.body(&mut own, "*/*", reference(name), true);
        self.answers(&mut own, &[("200", "OK"), ("201", "Created")], name, false);
        own
    }

    fn patch(&self, sub: &str, name: &str) -> Value {
        let text = self.specified("partially update", sub);
        let mut own = self.operation(self.id("patch", "", sub), "patch", text, PATCH);
        let custom = self.ty.type_facts().is_none();
        for media in [
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ] {
            if !(custom && media.contains("strategic")) {
                self.body(&mut own, media, reference(&full_name("meta.v1.Patch")), true);
            }
        }
        self.answers(&mut own, &[("200", "OK"), ("201", "Created")], name, false);
        own
    }

    fn delete(&self) -> Value {
        let kind = self.with_article();
        let text = format!("delete {kind}");
        let mut own = self.operation(self.id("delete", "", ""), "delete", text, DELETE);
        self.body(
            &mut own,
            "*/*",
            reference(&full_name("meta.v1.DeleteOptions")),
            false,
        );
        let codes = [("200", "OK"), ("202", "Accepted")];
        self.answers(&mut own, &codes, &full_name("meta.v1.Status"), false);
        own
    }

    fn delete_collection(&self) -> Value {
        let text = format!("delete collection of {}", self.ty.kind);
        let id = self.id("delete", "Collection", "");
        let mut own = self.operation(id, "deletecollection", text, DELETE_COLLECTION);
        self.body(
            &mut own,
            "*/*",
            reference(&full_name("meta.v1.DeleteOptions")),
            false,
        );
        self.answers(&mut own, &[("200", "OK")], &full_name("meta.v1.Status"), false);
        own
    }

    fn log(&self) -> Value {
        let text = self.specified("read", "log");
        let mut own = self.operation(self.id("read", "", "log"), "get", text, LOG);
        let content = json!({ "text/plain": { "schema": { "type": "string" } } });
        own["responses"]["200"] = json!({ "description": "OK", "content": content });
        own
    }

    fn connect(&self, sub: &str, method: &str) -> Value {
        let parameters = match sub {
            "exec" => EXEC,
            "attach" => ATTACH,
            "portforward" => &["ports"],
            _ => &["path"],
        };
        let verb = format!("connect{}{}", self.group, pascal(method));
        let scope = if self.ty.namespaced { "Namespaced" } else { "" };
        let id = format!("{verb}{scope}{}{}", self.ty.kind, pascal(sub));
        let kind = &self.ty.kind;
        let text = format!(
            "connect {} requests to {sub} of {kind}",
            method.to_ascii_uppercase()
        );
        let mut own = self.operation(id, "connect", text, parameters);
        let options = match sub {
            "portforward" => "PodPortForwardOptions".to_owned(),
            sub => format!("{kind}{}Options", pascal(sub)),
        };
        own["x-kubernetes-group-version-kind"] = gvk(&self.ty.group, &self.ty.version, &options);
        let content = json!({ "*/*": { "schema": { "type": "string" } } });
        own["responses"]["200"] = json!({ "description": "OK", "content": content });
        own
    }
}
