//! The scheduler: cache, plug-ins, queue and binding, with kube-scheduler's names and semantics.
//!
//! Knows Pods and Nodes as API objects. Must not know how Pods are run.
