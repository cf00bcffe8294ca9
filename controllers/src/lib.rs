//! The controllers: each a pure `plan` and a thin `sync`, one file each.
//!
//! Knows API objects. Must not know the store, nodes' runtimes or other components.
