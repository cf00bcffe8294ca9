//! Kinds of the authorization.k8s.io group: questions that are answered and never stored.

pub mod review;

use crate::resource::{CREATE, ResourceType};

const GROUP: &str = "authorization.k8s.io";

pub(crate) const RESOURCES: &[ResourceType] = &[
    ResourceType::new(
        [
            GROUP,
            "v1",
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
        ],
        "localsubjectaccessreview",
        "authorization.v1.LocalSubjectAccessReview",
        &review::AccessReview::LOCAL,
    )
    .verbs(CREATE),
    ResourceType::new(
        [GROUP, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"],
        "selfsubjectaccessreview",
        "authorization.v1.SelfSubjectAccessReview",
        &review::AccessReview::OWN,
    )
    .cluster()
    .verbs(CREATE),
    ResourceType::new(
        [GROUP, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews"],
        "selfsubjectrulesreview",
        "authorization.v1.SelfSubjectRulesReview",
        &review::RulesReview,
    )
    .cluster()
    .verbs(CREATE),
    ResourceType::new(
        [GROUP, "v1", "SubjectAccessReview", "subjectaccessreviews"],
        "subjectaccessreview",
        "authorization.v1.SubjectAccessReview",
        &review::AccessReview::OF_ANYONE,
    )
    .cluster()
    .verbs(CREATE),
];
