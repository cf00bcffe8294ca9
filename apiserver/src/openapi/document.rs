//! Whole documents, written piece by piece: no document is ever a tree in memory, and what is kept is compressed. Pure.

use std::io::{Read, Write};

use bytes::{Buf, Bytes};
use corten_api::resource::TypeRef;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::definitions::{Definitions, definition};
use super::gnostic;
use super::paths::paths;
use super::swagger;
use super::texts::Texts;
use crate::body::Body;

/// A document as it is kept.
pub struct Document {
    /// Compressed with gzip.
    pub compressed: Bytes,
    /// Upper-case hexadecimal digest of the document, without quotes.
    pub hash: String,
}

/// Bytes of a document that are unpacked at once.
const PIECE: usize = 64 * 1024;

impl Document {
    /// The document itself, unpacked piece by piece as it is read: whole ones take tens of MiB where there are many custom
    /// resources.
    pub fn plain(&self) -> Body {
        let packed = flate2::read::GzDecoder::new(self.compressed.clone().reader());
        Body::stream(futures::stream::unfold(packed, |mut packed| async move {
            let mut piece = Vec::with_capacity(PIECE);
            match packed.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                Ok(0) => None,
                Ok(_) => Some((Ok(Bytes::from(piece)), packed)),
                Err(error) => Some((Err(error.into()), packed)),
            }
        }))
    }
}

/// Takes a document's bytes as they are made.
struct Sink {
    compressed: GzEncoder<Vec<u8>>,
    digest: Sha256,
}

impl Sink {
    fn new() -> Sink {
        Sink {
            compressed: GzEncoder::new(Vec::new(), flate2::Compression::default()),
            digest: Sha256::new(),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.compressed.write_all(bytes).expect("memory takes it");
    }

    /// Members of a JSON object, one by one.
    fn members(&mut self, members: impl Iterator<Item = (String, Value)>) {
        for (idx, (name, value)) in members.enumerate() {
            let comma = if idx > 0 { "," } else { "" };
            self.put(format!("{comma}{}:{value}", Value::from(name)).as_bytes());
        }
    }

    fn finish(self) -> Document {
        let mut compressed = self.compressed.finish().expect("memory takes it");
        compressed.shrink_to_fit();
        let hash = self
            .digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        Document {
            compressed: compressed.into(),
            hash,
        }
    }
}

/// Definitions that operations of any resource refer to.
const COMMON: [&str; 3] = ["meta.v1.DeleteOptions", "meta.v1.Patch", "meta.v1.Status"];

fn definitions<'a>(types: impl Iterator<Item = &'a TypeRef>) -> Definitions {
    let mut out = Definitions::default();
    for name in COMMON {
        out.add(name);
    }
    for ty in types {
        out.add_resource(ty);
        for sub in ty.subresources {
            let (group, version, kind) = ty.body_of(sub);
            let known = |own: &&corten_api::schema::Type| own.gvks.contains(&(group, version, kind));
            if let Some(entry) = corten_api::schema::schema().types().iter().find(known) {
                out.add(entry.name);
            }
        }
    }
    out
}

fn all_definitions(own: &Definitions, texts: &Texts) -> impl Iterator<Item = (String, Value)> {
    own.0
        .iter()
        .map(|(name, source)| (name.clone(), definition(name, source, texts)))
}

fn security() -> Value {
    json!({ "BearerToken": { "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey" } })
}

fn info() -> Value {
    json!({ "title": "Kubernetes", "version": crate::KUBERNETES_VERSION })
}

/// The v3 document of the types of one group and version.
pub fn v3(types: &[TypeRef], texts: &Texts) -> Document {
    let own = definitions(types.iter());
    let mut sink = Sink::new();
    sink.put(b"{\"openapi\":\"3.0.0\",\"info\":");
    sink.put(info().to_string().as_bytes());
    sink.put(b",\"paths\":{");
    sink.members(types.iter().flat_map(|ty| paths(ty, texts)));
    sink.put(b"},\"components\":{\"schemas\":{");
    sink.members(all_definitions(&own, texts));
    sink.put(b"},\"securitySchemes\":");
    sink.put(security().to_string().as_bytes());
    sink.put(b"}}");
    sink.finish()
}

/// The same in protobuf.
pub fn v3_protobuf(types: &[TypeRef], texts: &Texts) -> Document {
    let own = definitions(types.iter());
    let mut document = gnostic::V3::new(&info());
    for (path, item) in types.iter().flat_map(|ty| paths(ty, texts)) {
        document.path(&path, &item);
    }
    for (name, schema) in all_definitions(&own, texts) {
        document.schema(&name, &schema);
    }
    let mut sink = Sink::new();
    sink.put(&document.finish());
    sink.finish()
}

/// The Swagger document of all types.
pub fn v2(types: &[TypeRef], texts: &Texts) -> Document {
    let own = definitions(types.iter());
    let mut sink = Sink::new();
    sink.put(b"{\"swagger\":\"2.0\",\"info\":");
    sink.put(info().to_string().as_bytes());
    sink.put(b",\"paths\":{");
    let items = types.iter().flat_map(|ty| paths(ty, texts));
    sink.members(items.map(|(path, item)| (path, swagger::item(item))));
    sink.put(b"},\"definitions\":{");
    sink.members(all_definitions(&own, texts).map(|(name, schema)| (name, swagger::definition(schema))));
    sink.put(b"},\"securityDefinitions\":");
    sink.put(security().to_string().as_bytes());
    sink.put(b",\"security\":[{\"BearerToken\":[]}]}");
    sink.finish()
}

/// The same in protobuf.
pub fn v2_protobuf(types: &[TypeRef], texts: &Texts) -> Document {
    let own = definitions(types.iter());
    let mut document = gnostic::V2::new(&info());
    for (path, item) in types.iter().flat_map(|ty| paths(ty, texts)) {
        document.path(&path, &swagger::item(item));
    }
    for (name, schema) in all_definitions(&own, texts) {
        document.schema(&name, &swagger::definition(schema));
    }
    let mut sink = Sink::new();
    sink.put(&document.finish());
    sink.finish()
}
