//! Events: what `kubectl describe` shows of what a component did.
//!
//! [`correlate`] decides (counts, combines, drops), [`recorder`] sends.

pub mod correlate;
pub mod recorder;

pub use recorder::EventRecorder;

/// Source: core/v1 Event, `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}
