//! How components talk to the API: informer caches, the controller runner, the event recorder.
//!
//! Knows the Kubernetes API as a client sees it. Must not know where the server is or which component calls.
//!
//! The parts, from the wire up: [`request`] (one verb, one call), [`reflect`] (list and watch kept alive), [`decode`] (typed objects;
//! [`decoded`]: once for all readers of a process),
//! [`cache`] (what the reflector saw, indexed), [`informers`] (one cache per kind, shared), [`queue`] and
//! [`runner`] (keys in, `sync` calls out), [`events`] (what `kubectl describe` shows). [`remote`] is a node's connection to
//! all servers of its cluster, [`join`] how it gets an identity and keeps it.

pub mod backoff;
pub mod cache;
pub mod connect;
pub mod decode;
pub mod decoded;
pub mod discovery;
pub mod elect;
pub mod error;
pub mod events;
pub mod file;
pub mod informers;
pub mod join;
pub mod object;
pub mod queue;
pub mod reflect;
pub mod remote;
pub mod request;
pub mod runner;

pub use cache::{Cache, Change, Subscription};
pub use connect::remote;
pub use error::ApiError;
pub use events::{EventRecorder, EventType};
pub use informers::{Informers, Selection};
pub use object::{KubeKind, Object, ObjectExt, ObjectKey, PartialObject, Target};
pub use request::{ApiClient, DeleteOptions, Patch, Propagation, Subresource, Written};
pub use runner::{Controller, QueueHandle, Requeue, Writes};
