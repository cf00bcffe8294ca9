//! Volumes: [`payload`] decides what files a volume holds (pure), [`atomic`] writes them so that a reader never sees a
//! half-written set, [`mount`] sets a Pod's volumes up and takes them down, [`subpath`] resolves paths inside them.
//!
//! Must not know containers' life cycle; the Pod machine says when.

pub mod atomic;
pub mod mount;
pub mod payload;
pub mod subpath;

/// A volume that cannot be set up, in the words of a `FailedMount` event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {message}")]
pub struct VolumeError {
    pub volume: String,
    pub message: String,
}
