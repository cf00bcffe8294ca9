//! The Roles and bindings that every cluster starts with, as Kubernetes v1.36 has them. Data.
//!
//! `cluster` and `controllers` are the tables; here is how a line of them is read. A rule is one line:
//! `VERBS GROUPS: RESOURCES [= NAMES]`, or `VERBS /PATH…`. Lists of verbs and groups have commas, the others spaces;
//! `core` is the group without a name. Source: Kubernetes `plugin/pkg/auth/authorizer/rbac/bootstrappolicy`.

mod cluster;
mod controllers;

use serde_json::{Map, Value, json};

use super::matches::{PolicyRule, Words};

/// One default object: plural, namespace (empty for cluster scope), object.
pub type Wanted = (&'static str, &'static str, Value);

/// Objects whose names begin so belong to the system; those with the annotation are kept as they are here.
pub const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";
/// Names and rules of controllers' roles.
type Controllers = &'static [(&'static str, &'static [&'static str])];

/// How roles of controllers begin, and these roles: Kubernetes' and our additions.
const CONTROLLERS: [(&str, Controllers); 2] = [
    ("system:controller:", controllers::ROLES),
    ("corten:controller:", controllers::OWN_ROLES),
];

/// One role of a table.
struct Role {
    name: &'static str,
    /// This role's rules become part of the role of this name.
    aggregate_to: Option<&'static str>,
    /// The rules are those of the roles that say so.
    aggregated: bool,
    rules: &'static [&'static str],
}

const fn role(name: &'static str, rules: &'static [&'static str]) -> Role {
    Role {
        name,
        aggregate_to: None,
        aggregated: false,
        rules,
    }
}

/// All defaults, roles before the bindings that name them.
#[must_use]
pub fn objects() -> Vec<Wanted> {
    let mut objects = Vec::new();
    for role in cluster::ROLES {
        objects.push(("clusterroles", "", cluster_role(role)));
    }
    for (start, roles) in CONTROLLERS {
        for (name, rules) in roles {
            objects.push(("clusterroles", "", role_object(&format!("{start}{name}"), rules)));
        }
    }
    for (namespace, name, rules) in cluster::NAMESPACED {
        objects.push(("roles", namespace, role_object(name, rules)));
    }
    for (role, subjects) in cluster::BINDINGS {
        let binding = binding(role, "ClusterRole", role, "", subjects);
        objects.push(("clusterrolebindings", "", binding));
    }
    for (name, role, subjects) in cluster::OWN_BINDINGS {
        let binding = binding(name, "ClusterRole", role, "", subjects);
        objects.push(("clusterrolebindings", "", binding));
    }
    for (start, roles) in CONTROLLERS {
        for (name, _) in roles {
            let (role, subject) = (format!("{start}{name}"), format!("sa:kube-system/{name}"));
            let binding = binding(&role, "ClusterRole", &role, "", &[&subject]);
            objects.push(("clusterrolebindings", "", binding));
        }
    }
    for (namespace, name, role, subjects) in cluster::NAMESPACED_BINDINGS {
        let binding = binding(name, "Role", role, namespace, subjects);
        objects.push(("rolebindings", namespace, binding));
    }
    objects
}

/// What a node's agent may do with what is not divided between nodes.
#[must_use]
pub fn node_rules() -> Vec<PolicyRule> {
    let role = cluster::ROLES.iter().find(|role| role.name == "system:node");
    let rules = role.expect("the table has it").rules;
    rules.iter().map(|line| rule(line)).collect()
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": { BOOTSTRAPPING: "rbac-defaults" },
        "annotations": { AUTO_UPDATE: "true" },
    })
}

fn role_object(name: &str, rules: &[&str]) -> Value {
    let rules: Vec<PolicyRule> = rules.iter().map(|line| rule(line)).collect();
    json!({ "metadata": metadata(name), "rules": rules })
}

fn cluster_role(role: &Role) -> Value {
    let mut object = role_object(role.name, role.rules);
    if let Some(to) = role.aggregate_to {
        object["metadata"]["labels"][format!("{AGGREGATE}{to}")] = "true".into();
    }
    if role.aggregated {
        let labels = Map::from_iter([(format!("{AGGREGATE}{}", role.name), "true".into())]);
        object["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": labels }] });
        object["rules"] = Value::Null;
    }
    object
}

/// Subjects are `user:NAME`, `group:NAME` and `sa:NAMESPACE/NAME`.
fn binding(name: &str, kind: &str, role: &str, namespace: &str, subjects: &[&str]) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(
            |subject| match subject.split_once(':').expect("a kind of subject") {
                ("user", name) => json!({ "kind": "User", "name": name, "apiGroup": super::GROUP }),
                ("group", name) => json!({ "kind": "Group", "name": name, "apiGroup": super::GROUP }),
                (_, place) => {
                    let (namespace, name) = place.split_once('/').expect("a namespace and a name");
                    json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace })
                }
            },
        )
        .collect();
    let mut object = json!({
        "metadata": metadata(name),
        "roleRef": { "apiGroup": super::GROUP, "kind": kind, "name": role },
        "subjects": subjects,
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

/// A line of a table; its lists come out sorted, as upstream's do.
fn rule(line: &str) -> PolicyRule {
    let (verbs, rest) = line.split_once(' ').expect("verbs and what they are about");
    let verbs = match verbs {
        "read" => "get,list,watch",
        "read-update" => "get,list,patch,update,watch",
        "write" => "create,delete,deletecollection,patch,update",
        "read-write" => "create,delete,deletecollection,get,list,patch,update,watch",
        own => own,
    };
    let verbs = sorted(verbs.split(','));
    let Some((groups, rest)) = rest.split_once(": ") else {
        return PolicyRule {
            verbs,
            non_resource_urls: sorted(rest.split(' ')),
            ..PolicyRule::default()
        };
    };
    let (resources, names) = rest.split_once(" = ").unwrap_or((rest, ""));
    let groups = groups
        .split(',')
        .map(|group| if group == "core" { "" } else { group });
    PolicyRule {
        verbs,
        api_groups: sorted(groups),
        resources: sorted(resources.split(' ')),
        resource_names: sorted(names.split(' ').filter(|name| !name.is_empty())),
        ..PolicyRule::default()
    }
}

fn sorted<'a>(words: impl Iterator<Item = &'a str>) -> Words {
    let mut words: Vec<&str> = words.collect();
    words.sort_unstable();
    words.into_iter().map(Box::from).collect()
}

#[cfg(test)]
mod tests {
    use corten_api::{FieldValidation, registry};

    use super::*;

    #[test]
    fn every_default_is_a_valid_object_of_its_own_name() {
        let mut seen = std::collections::HashSet::new();
        for (plural, namespace, object) in objects() {
            let ty = registry()
                .lookup(super::super::GROUP, "v1", plural)
                .expect("built in");
            let bytes = serde_json::to_vec(&object).unwrap();
            ty.decode(&bytes, FieldValidation::Strict).expect("valid");
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            assert!(
                seen.insert((plural, namespace, name.clone())),
                "{plural} {name} twice"
            );
        }
    }

    #[test]
    fn every_binding_names_a_role_of_the_tables() {
        let objects = objects();
        for (plural, namespace, object) in &objects {
            if !plural.ends_with("bindings") {
                continue;
            }
            let (place, kind) = match object["roleRef"]["kind"].as_str().unwrap() {
                "Role" => (*namespace, "roles"),
                _ => ("", "clusterroles"),
            };
            let found = objects.iter().any(|(plural, namespace, role)| {
                (*plural, *namespace) == (kind, place)
                    && role["metadata"]["name"] == object["roleRef"]["name"]
            });
            assert!(found, "{object}");
        }
    }

    /// A default object as a line of `upstream-1.36.txt` and, sorted, the lines below it.
    fn entry((plural, namespace, object): &Wanted) -> (String, Vec<String>) {
        let words = |value: &Value, by: &str| {
            let words = value.as_array().into_iter().flatten();
            let words = words.map(|word| word.as_str().unwrap());
            let words = words.map(|word| if word.is_empty() { "core" } else { word });
            words.collect::<Vec<_>>().join(by)
        };
        let kind = match *plural {
            "clusterroles" => "ClusterRole",
            "roles" => "Role",
            "clusterrolebindings" => "ClusterRoleBinding",
            _ => "RoleBinding",
        };
        let place = Some(namespace).filter(|name| !name.is_empty());
        let place = place.map(|name| format!("{name}/")).unwrap_or_default();
        let meta = &object["metadata"];
        let mut head = format!("{kind} {place}{}", meta["name"].as_str().unwrap());
        assert_eq!(meta["annotations"], json!({ AUTO_UPDATE: "true" }));
        assert_eq!(meta["labels"][BOOTSTRAPPING], "rbac-defaults");
        for label in meta["labels"].as_object().unwrap().keys() {
            if label != BOOTSTRAPPING {
                head += &format!(" to:{}", label.strip_prefix(AGGREGATE).unwrap());
            }
        }
        for selector in object["aggregationRule"]["clusterRoleSelectors"]
            .as_array()
            .into_iter()
            .flatten()
        {
            for label in selector["matchLabels"].as_object().unwrap().keys() {
                head += &format!(" of:{}", label.strip_prefix(AGGREGATE).unwrap());
            }
        }
        let mut lines = Vec::new();
        for rule in object["rules"].as_array().into_iter().flatten() {
            let urls = words(&rule["nonResourceURLs"], " ");
            let mut line = format!("  {} {urls}", words(&rule["verbs"], ","));
            if urls.is_empty() {
                line += &format!(
                    "{}: {}",
                    words(&rule["apiGroups"], ","),
                    words(&rule["resources"], " ")
                );
                if !rule["resourceNames"].is_null() {
                    line += &format!(" = {}", words(&rule["resourceNames"], " "));
                }
            }
            lines.push(line);
        }
        if let Value::Object(to) = &object["roleRef"] {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            lines.push(format!("  {} {}", text(&to["kind"]), text(&to["name"])));
            for subject in object["subjects"].as_array().unwrap() {
                let name = text(&subject["name"]);
                lines.push(match subject["kind"].as_str().unwrap() {
                    "ServiceAccount" => format!("  sa:{}/{name}", text(&subject["namespace"])),
                    kind => format!("  {}:{name}", kind.to_lowercase()),
                });
            }
        }
        lines.sort_unstable();
        (head, lines)
    }

    /// The facts file is what upstream's own test holds its defaults to, in the notation of the tables: a head for each
    /// object (`to:` and `of:` are aggregation), below it its rules, or its role and subjects.
    #[test]
    fn the_defaults_are_upstream_s_to_the_last_rule() {
        let mut upstream = std::collections::BTreeMap::<String, Vec<String>>::new();
        let mut head = String::new();
        for line in include_str!("upstream-1.36.txt").lines() {
            if line.starts_with(' ') {
                upstream.get_mut(&head).unwrap().push(line.to_owned());
            } else {
                head = line.to_owned();
                assert!(
                    upstream.insert(head.clone(), Vec::new()).is_none(),
                    "{head} twice"
                );
            }
        }
        upstream.values_mut().for_each(|lines| lines.sort_unstable());
        let own = |head: &str| head.contains(" corten:") || head.contains("/corten:");
        let mut differ = Vec::new();
        for (head, lines) in objects().iter().map(entry).filter(|(head, _)| !own(head)) {
            match upstream.remove(&head) {
                Some(wanted) => {
                    let count = |of: &[String], line: &String| of.iter().filter(|own| *own == line).count();
                    let less = |of: &[String], than: &[String]| -> Vec<String> {
                        let lines = than.iter().filter(|line| count(of, line) < count(than, line));
                        lines.map(|line| format!("{head}: {line}")).collect()
                    };
                    differ.extend(
                        less(&wanted, &lines)
                            .iter()
                            .map(|line| format!("extra in {line}")),
                    );
                    differ.extend(
                        less(&lines, &wanted)
                            .iter()
                            .map(|line| format!("missing in {line}")),
                    );
                }
                None => differ.push(format!("not upstream's: {head}")),
            }
        }
        differ.extend(upstream.keys().map(|head| format!("missing: {head}")));
        assert!(differ.is_empty(), "{}", differ.join("\n"));
    }

    #[test]
    fn lines_become_rules() {
        let text = |line: &str| serde_json::to_value(rule(line)).unwrap();
        assert_eq!(
            text("get,create apps,core: pods/log pods = b a"),
            json!({"verbs": ["create", "get"], "apiGroups": ["", "apps"],
                "resources": ["pods", "pods/log"], "resourceNames": ["a", "b"]})
        );
        assert_eq!(
            text("get /livez /api/*"),
            json!({"verbs": ["get"], "nonResourceURLs": ["/api/*", "/livez"]})
        );
    }
}
