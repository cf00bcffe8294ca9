//! How components talk to the API: informer caches, the controller runner, the event recorder.
//!
//! Knows the Kubernetes API as a client sees it. Must not know where the server is or which component calls.
