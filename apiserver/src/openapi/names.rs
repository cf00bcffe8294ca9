//! Names of definitions: `core.v1.Pod` of the table of facts is `io.k8s.api.core.v1.Pod` to clients.

/// The name of a type of the table in OpenAPI documents.
#[must_use]
pub fn full_name(name: &str) -> String {
    let prefix = match name.split('.').next().unwrap_or_default() {
        "meta" => "io.k8s.apimachinery.pkg.apis.",
        "intstr" => "io.k8s.apimachinery.pkg.util.",
        "resource" if name == "resource.Quantity" => "io.k8s.apimachinery.pkg.api.",
        "runtime" | "version" => "io.k8s.apimachinery.pkg.",
        "apiextensions" => "io.k8s.apiextensions-apiserver.pkg.apis.",
        "apiregistration" => "io.k8s.kube-aggregator.pkg.apis.",
        _ => "io.k8s.api.",
    };
    format!("{prefix}{name}")
}

/// The definition of a custom kind: `stable.example.com`, `v1`, `Foo` is `com.example.stable.v1.Foo`.
#[must_use]
pub fn custom_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

/// How operations name a group and version: `rbac.authorization.k8s.io` is `RbacAuthorization`.
#[must_use]
pub fn pascal(text: &str) -> String {
    text.split(['.', '-', '/'])
        .map(|part| {
            let mut chars = part.chars();
            chars
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + chars.as_str())
                .unwrap_or_default()
        })
        .collect()
}

/// A group as operations and tags know it, without `k8s.io`.
#[must_use]
pub fn group_word(group: &str) -> String {
    match group {
        "" => "Core".into(),
        group => pascal(group.strip_suffix(".k8s.io").unwrap_or(group)),
    }
}
