//! Kinds of the admissionregistration.k8s.io group.

pub mod binding;
mod compile;
pub mod expressions;
mod matching;
pub mod policy;
pub mod type_check;
pub mod webhook;

use crate::resource::{ResourceType, SubresourceType};

const GROUP: &str = "admissionregistration.k8s.io";

pub(crate) const RESOURCES: &[ResourceType] = &[
    ResourceType::new(
        [
            GROUP,
            "v1",
            "MutatingAdmissionPolicy",
            "mutatingadmissionpolicies",
        ],
        "mutatingadmissionpolicy",
        "admissionregistration.v1.MutatingAdmissionPolicy",
        &policy::MutatingAdmissionPolicy,
    )
    .cluster()
    .categories(&["api-extensions"]),
    ResourceType::new(
        [
            GROUP,
            "v1",
            "MutatingAdmissionPolicyBinding",
            "mutatingadmissionpolicybindings",
        ],
        "mutatingadmissionpolicybinding",
        "admissionregistration.v1.MutatingAdmissionPolicyBinding",
        &binding::PolicyBinding::MUTATING,
    )
    .cluster()
    .categories(&["api-extensions"]),
    ResourceType::new(
        [
            GROUP,
            "v1",
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
        ],
        "mutatingwebhookconfiguration",
        "admissionregistration.v1.MutatingWebhookConfiguration",
        &webhook::WebhookConfiguration::MUTATING,
    )
    .cluster()
    .categories(&["api-extensions"]),
    ResourceType::new(
        [
            GROUP,
            "v1",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
        ],
        "validatingadmissionpolicy",
        "admissionregistration.v1.ValidatingAdmissionPolicy",
        &policy::ValidatingAdmissionPolicy,
    )
    .cluster()
    .categories(&["api-extensions"])
    .subresources(&[SubresourceType::status("ValidatingAdmissionPolicy")]),
    ResourceType::new(
        [
            GROUP,
            "v1",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
        ],
        "validatingadmissionpolicybinding",
        "admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        &binding::PolicyBinding::VALIDATING,
    )
    .cluster()
    .categories(&["api-extensions"]),
    ResourceType::new(
        [
            GROUP,
            "v1",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
        ],
        "validatingwebhookconfiguration",
        "admissionregistration.v1.ValidatingWebhookConfiguration",
        &webhook::WebhookConfiguration::VALIDATING,
    )
    .cluster()
    .categories(&["api-extensions"]),
];
