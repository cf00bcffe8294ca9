//! Container logs: [`format`] understands the CRI format (pure), [`reader`] serves `kubectl logs`, [`rotate`] keeps
//! files within bounds, [`inotify`] tells both of changes so that nothing polls.
//!
//! Layout: `{data}/pods/logs/{namespace}_{name}_{uid}/{container}/{attempt}.log`.

pub mod format;
pub mod inotify;
pub mod reader;
pub mod rotate;
