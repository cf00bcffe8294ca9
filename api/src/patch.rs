//! The three patches that need no field ownership: JSON merge, JSON patch, strategic merge.
//!
//! A patch turns the current object into the wanted one; what comes out is decoded, defaulted and
//! validated like any other update. Server-side apply is a fourth type with its own room.

pub mod json_patch;
pub mod merge;
pub mod strategic;

pub use json_patch::json_patch;
pub use merge::merge_patch;

use crate::Status;

/// A patch's media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    /// `application/apply-patch+yaml`: known, and not served yet.
    Apply,
}

/// The media types a PATCH is answered for.
pub const SUPPORTED: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

impl PatchType {
    /// Reads a `Content-Type`, parameters ignored.
    ///
    /// # Errors
    /// 415 for anything that is no patch this server can carry out, server-side apply included.
    pub fn from_content_type(content_type: &str) -> Result<Self, Status> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            _ => Err(Status::unsupported_media_type(&SUPPORTED)),
        }
    }
}
