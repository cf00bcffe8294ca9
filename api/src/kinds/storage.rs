//! Kinds of the storage group.

pub mod attributes_class;
pub mod capacity;
pub mod class;
pub mod csi_driver;
pub mod csi_node;
mod parameters;
pub mod volume_attachment;

use crate::resource::{ResourceType, SubresourceType};

const fn kind(
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    schema: &'static str,
    behaviour: &'static dyn crate::resource::Kind,
) -> ResourceType {
    ResourceType::new(
        ["storage.k8s.io", "v1", kind, plural],
        singular,
        schema,
        behaviour,
    )
}

pub(crate) const RESOURCES: &[ResourceType] = &[
    kind(
        "CSIDriver",
        "csidrivers",
        "csidriver",
        "storage.v1.CSIDriver",
        &csi_driver::CSIDriver,
    )
    .cluster(),
    kind(
        "CSINode",
        "csinodes",
        "csinode",
        "storage.v1.CSINode",
        &csi_node::CSINode,
    )
    .cluster(),
    kind(
        "CSIStorageCapacity",
        "csistoragecapacities",
        "csistoragecapacity",
        "storage.v1.CSIStorageCapacity",
        &capacity::CSIStorageCapacity,
    ),
    kind(
        "StorageClass",
        "storageclasses",
        "storageclass",
        "storage.v1.StorageClass",
        &class::StorageClass,
    )
    .cluster()
    .short(&["sc"]),
    kind(
        "VolumeAttachment",
        "volumeattachments",
        "volumeattachment",
        "storage.v1.VolumeAttachment",
        &volume_attachment::VolumeAttachment,
    )
    .cluster()
    .subresources(&[SubresourceType::status("VolumeAttachment")]),
    kind(
        "VolumeAttributesClass",
        "volumeattributesclasses",
        "volumeattributesclass",
        "storage.v1.VolumeAttributesClass",
        &attributes_class::VolumeAttributesClass,
    )
    .cluster()
    .short(&["vac"]),
];
