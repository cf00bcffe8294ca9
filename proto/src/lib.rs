//! Wire formats other programs define: the parts of CRI v1 and of containerd's own API that Corten calls.
//!
//! Knows message layouts. Must not know what any caller does with them.
