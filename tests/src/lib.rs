//! End to end: the real binary, real containerd, hosts made of network namespaces.
//!
//! Knows only what a user sees: commands, HTTP and files.
