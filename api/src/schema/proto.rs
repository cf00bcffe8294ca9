//! JSON to Kubernetes protobuf and back, by the table of facts: no generated types.
//!
//! A body is `k8s\0` and a `runtime.Unknown` that names the kind and holds the message. The messages are byte for byte
//! what Go's generated marshalers write: fields by number, every value that is not a pointer, map keys in order.
//! Source: `k8s.io/apimachinery/pkg/runtime/serializer/protobuf` and the `generated.proto` files.
//!
//! Protobuf has no place for the `apiVersion` and `kind` of objects inside others (claim templates, list items): they
//! are lost on the way, as upstream loses them.

mod layout;
mod read;
mod write;

pub use read::to_json;
pub use write::{ListItems, close_list, from_json, item_size, type_of_body, watch_event, write_item};

/// The first bytes of every body.
pub const MAGIC: &[u8] = b"k8s\0";
/// The media type of bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// Deepest nesting of messages, in both directions.
pub const MAX_DEPTH: usize = 200;

/// The text of what cannot be read or written.
pub type Result<T> = std::result::Result<T, String>;
