//! The network daemon: the CNI plug-in, routes to other nodes, Service NAT.
//!
//! Knows Nodes, Services and EndpointSlices. Must not know containers or how Pods are placed.
