//! What `authorizer` asks the host.

/// Whom a question is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Subject {
    /// The user of the request.
    #[default]
    Requester,
    ServiceAccount {
        namespace: String,
        name: String,
    },
}

/// A question: may the subject do this? A path, or a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    pub subject: Subject,
    /// Of a request that is for no resource; empty otherwise.
    pub path: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// As written; one that cannot be read selects nothing, as upstream.
    pub field_selector: String,
    pub label_selector: String,
}

/// The host's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// Given by the host; a check counts 350,000 units of cost whatever it takes.
pub trait Authorize: Send + Sync {
    /// `verb` is a verb of the API for resources, an HTTP method in lower case for paths.
    fn authorize(&self, check: &Check, verb: &str) -> Decision;
}
