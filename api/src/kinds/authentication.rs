//! Kinds of the authentication.k8s.io group: questions that are answered and never stored.

pub mod token_request;

use crate::resource::{CREATE, Kind, ResourceType};

/// A question about a user. Its answer comes from the server; nothing of it is defaulted or kept.
pub struct Review;

impl Kind for Review {}

const GROUP: &str = "authentication.k8s.io";

pub(crate) const RESOURCES: &[ResourceType] = &[
    ResourceType::new(
        [GROUP, "v1", "SelfSubjectReview", "selfsubjectreviews"],
        "selfsubjectreview",
        "authentication.v1.SelfSubjectReview",
        &Review,
    )
    .cluster()
    .verbs(CREATE),
    ResourceType::new(
        [GROUP, "v1", "TokenReview", "tokenreviews"],
        "tokenreview",
        "authentication.v1.TokenReview",
        &Review,
    )
    .cluster()
    .verbs(CREATE),
];
