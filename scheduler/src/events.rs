//! What happens in a cluster, and which plug-in's refusal it may lift.
//!
//! Knows plug-ins by name. Must not know the queue.

use std::ops::{BitOr, BitOrAssign};

/// A set of cluster events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u16);

impl Events {
    pub const NONE: Events = Events(0);
    pub const NODE_ADDED: Events = Events(1);
    pub const NODE_DELETED: Events = Events(1 << 1);
    pub const NODE_LABELS: Events = Events(1 << 2);
    /// Taints or `spec.unschedulable`.
    pub const NODE_TAINTS: Events = Events(1 << 3);
    pub const NODE_ALLOCATABLE: Events = Events(1 << 4);
    /// An assigned Pod appeared, or its labels changed.
    pub const POD_ADDED: Events = Events(1 << 5);
    /// An assigned Pod left or finished, or asks for less.
    pub const POD_REMOVED: Events = Events(1 << 6);
    pub const NAMESPACE_LABELS: Events = Events(1 << 7);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn intersects(self, other: Events) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Events {
    type Output = Events;
    fn bitor(self, other: Events) -> Events {
        Events(self.0 | other.0)
    }
}

impl BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Events) {
        self.0 |= other.0;
    }
}

/// The plug-ins that can refuse a Pod, with kube-scheduler's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plugin {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeBinding,
    DynamicResources,
    PodTopologySpread,
    InterPodAffinity,
}

impl Plugin {
    pub const ALL: [Plugin; 10] = [
        Plugin::NodeUnschedulable,
        Plugin::NodeName,
        Plugin::TaintToleration,
        Plugin::NodeAffinity,
        Plugin::NodePorts,
        Plugin::NodeResourcesFit,
        Plugin::VolumeBinding,
        Plugin::DynamicResources,
        Plugin::PodTopologySpread,
        Plugin::InterPodAffinity,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Plugin::NodeUnschedulable => "NodeUnschedulable",
            Plugin::NodeName => "NodeName",
            Plugin::TaintToleration => "TaintToleration",
            Plugin::NodeAffinity => "NodeAffinity",
            Plugin::NodePorts => "NodePorts",
            Plugin::NodeResourcesFit => "NodeResourcesFit",
            Plugin::VolumeBinding => "VolumeBinding",
            Plugin::DynamicResources => "DynamicResources",
            Plugin::PodTopologySpread => "PodTopologySpread",
            Plugin::InterPodAffinity => "InterPodAffinity",
        }
    }

    /// The events after which a Pod this plug-in refused deserves another try. A change of the Pod itself always does.
    fn lifted_by(self) -> Events {
        let node = Events::NODE_ADDED;
        match self {
            Plugin::NodeUnschedulable | Plugin::TaintToleration => node | Events::NODE_TAINTS,
            Plugin::NodeName => node,
            Plugin::NodeAffinity => node | Events::NODE_LABELS,
            Plugin::NodePorts => node | Events::POD_REMOVED,
            Plugin::NodeResourcesFit => node | Events::NODE_ALLOCATABLE | Events::POD_REMOVED,
            Plugin::VolumeBinding | Plugin::DynamicResources => Events::NONE,
            Plugin::PodTopologySpread => {
                node | Events::NODE_DELETED
                    | Events::NODE_LABELS
                    | Events::NODE_TAINTS
                    | Events::POD_ADDED
                    | Events::POD_REMOVED
            }
            Plugin::InterPodAffinity => {
                node | Events::NODE_LABELS
                    | Events::POD_ADDED
                    | Events::POD_REMOVED
                    | Events::NAMESPACE_LABELS
            }
        }
    }
}

/// The plug-ins that refused one Pod. Empty when there was no node at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginSet(u16);

impl PluginSet {
    pub fn insert(&mut self, plugin: Plugin) {
        self.0 |= 1 << plugin as u16;
    }

    pub fn contains(self, plugin: Plugin) -> bool {
        self.0 & (1 << plugin as u16) != 0
    }

    pub fn lifted_by(self) -> Events {
        let refused = Plugin::ALL.into_iter().filter(|plugin| self.contains(*plugin));
        refused.fold(Events::NODE_ADDED, |events, plugin| events | plugin.lifted_by())
    }
}
