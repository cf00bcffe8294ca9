//! Kubeconfig files as `kubectl` and `kube` read them. Knows the file format only.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Issued, PkiError, files};

/// A kubeconfig with one cluster, user and context, all called `name`, certificates inline.
///
/// It is JSON, which is YAML too: no text of ours needs quoting rules.
#[must_use]
pub fn kubeconfig(name: &str, server: &str, ca_pem: &str, client: &Issued) -> String {
    let document = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(ca_pem),
        }}],
        "users": [{ "name": name, "user": {
            "client-certificate-data": STANDARD.encode(&client.cert_pem),
            "client-key-data": STANDARD.encode(&client.key_pem),
        }}],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
        "current-context": name,
    });
    let mut text = serde_json::to_string_pretty(&document).expect("a JSON value serialises");
    text.push('\n');
    text
}

/// Writes [`kubeconfig`] to `path` with mode 0600, atomically.
///
/// # Errors
/// What the file system reports.
pub fn write_kubeconfig(
    path: &Path,
    name: &str,
    server: &str,
    ca_pem: &str,
    client: &Issued,
) -> Result<(), PkiError> {
    files::write_private(path, kubeconfig(name, server, ca_pem, client).as_bytes())
}
