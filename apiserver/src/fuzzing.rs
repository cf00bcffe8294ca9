//! What the fuzz targets reach of this crate's inside. Nothing else may use it.

use http::Method;

pub use crate::negotiate::yaml_to_json;
use crate::query::Query;
use crate::route::{self, Operation};

/// The names a request's path consists of, if it leads somewhere. `target` is a path with its query.
#[must_use]
pub fn route(method: &str, target: &str) -> Option<Vec<String>> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let query = Query::parse(Some(query));
    Some(match route::route(&method, path, &query).ok()? {
        Operation::Resource(target) => {
            let sub = target.subresource.unwrap_or_default();
            let mut names: Vec<String> = sub
                .split('/')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect();
            names.extend([target.version, target.resource]);
            names.extend([target.namespace, target.name].into_iter().flatten());
            names
        }
        Operation::Tunnel { node } => vec![node],
        Operation::Group(group) => vec![group],
        Operation::Resources { version, .. } => vec![version],
        _ => Vec::new(),
    })
}
