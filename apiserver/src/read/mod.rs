//! Reads: get, list and watch, from stored bytes.
//!
//! Knows selectors, pages and forms. Must not know how objects came to be or who may see them.

pub mod filter;
pub mod get;
pub mod list;
mod list_protobuf;
pub mod options;
pub mod page;
pub mod point;
pub mod shape;
pub mod shared;
pub mod watch;
