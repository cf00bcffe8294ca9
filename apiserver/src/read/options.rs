//! Whether the options of a list or watch go together, and what a watch means by saying nothing. Pure.
//!
//! Source: Kubernetes `SetListOptionsDefaults` and `ValidateListOptions` (meta/internalversion).

use corten_api::field::FieldErrors;
use corten_api::selector::FieldSelector;
use corten_api::status::{Qualified, Status};

use crate::query::ListOptions;

pub const EXACT: &str = "Exact";
pub const NOT_OLDER_THAN: &str = "NotOlderThan";

const MATCH: &str = "resourceVersionMatch";

/// A watch from nowhere (`resourceVersion` unset or `0`) asks for the state first, as a WatchList does.
#[must_use]
pub fn with_watch_defaults(options: &ListOptions) -> ListOptions {
    let mut options = options.clone();
    let from_nowhere = matches!(options.resource_version.as_deref(), None | Some("0"));
    if from_nowhere && options.send_initial_events.is_none() && options.resource_version_match.is_none() {
        options.send_initial_events = Some(true);
        options.resource_version_match = Some(NOT_OLDER_THAN.to_owned());
    }
    options
}

/// The options of a watch by path (`/api/v1/watch/...`) on the object `name`; a watch of a list has no name.
///
/// # Errors
/// `BadRequest` for a field selector that is not about this name, or cannot be read.
pub fn of_one(mut options: ListOptions, name: Option<&str>) -> Result<ListOptions, Status> {
    let Some(name) = name else { return Ok(options) };
    match &options.field_selector {
        None => options.field_selector = Some(format!("metadata.name={name}")),
        Some(text) => {
            let fields = FieldSelector::parse(text).map_err(Status::bad_request)?;
            if fields.required_value("metadata.name") != Some(name) {
                return Err(Status::bad_request(
                    "fieldSelector metadata.name doesn't match requested name",
                ));
            }
        }
    }
    Ok(options)
}

/// # Errors
/// `Invalid` with a cause for each rule that is broken.
pub fn check_list(options: &ListOptions) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    if let Some(how) = options.resource_version_match.as_deref() {
        if options.resource_version.is_none() {
            errors.forbidden(
                MATCH,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if options.continue_token.is_some() {
            errors.forbidden(
                MATCH,
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        if how != EXACT && how != NOT_OLDER_THAN {
            errors.not_supported(MATCH, how, &[EXACT, NOT_OLDER_THAN, ""]);
        }
        if how == EXACT && options.resource_version.as_deref() == Some("0") {
            errors.forbidden(
                MATCH,
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
    }
    if options.send_initial_events.is_some() {
        errors.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    verdict(&errors)
}

/// Of options that went through [`with_watch_defaults`].
///
/// # Errors
/// `Invalid` with a cause for each rule that is broken.
pub fn check_watch(options: &ListOptions) -> Result<(), Status> {
    let mut errors = FieldErrors::default();
    let how = options.resource_version_match.as_deref();
    if options.send_initial_events.is_some() && how != Some(NOT_OLDER_THAN) {
        errors.forbidden(
            MATCH,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    if let Some(how) = how {
        if options.send_initial_events.is_none() {
            errors.forbidden(
                MATCH,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if how != NOT_OLDER_THAN {
            errors.not_supported(MATCH, how, &[NOT_OLDER_THAN]);
        }
        if options.continue_token.is_some() {
            errors.forbidden(
                MATCH,
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
    }
    verdict(&errors)
}

fn verdict(errors: &FieldErrors) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(
        Qualified::new("meta.k8s.io", "ListOptions"),
        "",
        errors,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;

    /// `want`: the causes as `field: text`, in order; none for options that are fine.
    #[track_caller]
    fn check(verb: fn(&ListOptions) -> Result<(), Status>, query: &str, want: &[&str]) {
        let options = ListOptions::parse(&Query::parse(Some(query))).expect("options");
        let got: Vec<String> = match verb(&options) {
            Ok(()) => Vec::new(),
            Err(status) => {
                assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"), "{query}");
                assert!(
                    status
                        .message
                        .starts_with("ListOptions.meta.k8s.io \"\" is invalid: "),
                    "{}",
                    status.message
                );
                let causes = status.details.expect("causes").causes;
                causes
                    .iter()
                    .map(|cause| format!("{}: {}", cause.field, cause.message))
                    .collect()
            }
        };
        assert_eq!(got, want, "{query}");
    }

    const UNLESS_VERSION: &str = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
    const WITH_CONTINUE: &str =
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided";
    const ZERO: &str = "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
    const INITIAL_LIST: &str = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
    const NEEDS_MATCH: &str = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    const NEEDS_INITIAL: &str = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";

    #[test]
    fn lists() {
        for fine in [
            "",
            "limit=5",
            "resourceVersion=0",
            "resourceVersion=7&resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=NotOlderThan",
            "resourceVersion=7&limit=5&resourceVersionMatch=NotOlderThan",
            "continue=x",
            "continue=x&resourceVersion=7",
        ] {
            check(check_list, fine, &[]);
        }
        check(check_list, "resourceVersionMatch=Exact", &[UNLESS_VERSION]);
        check(
            check_list,
            "resourceVersionMatch=NotOlderThan&continue=x",
            &[UNLESS_VERSION, WITH_CONTINUE],
        );
        check(
            check_list,
            "resourceVersionMatch=Exact&resourceVersion=1&continue=x",
            &[WITH_CONTINUE],
        );
        check(
            check_list,
            "resourceVersion=0&resourceVersionMatch=Exact",
            &[ZERO],
        );
        check(
            check_list,
            "resourceVersion=1&resourceVersionMatch=Newest",
            &[
                "resourceVersionMatch: Unsupported value: \"Newest\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
            ],
        );
        check(check_list, "sendInitialEvents=true", &[INITIAL_LIST]);
        check(check_list, "sendInitialEvents=false", &[INITIAL_LIST]);
    }

    #[test]
    fn a_watch_of_one_object_is_narrowed_to_its_name() {
        let of = |query: &str| {
            let options = ListOptions::parse(&Query::parse(Some(query))).expect("options");
            of_one(options, Some("a"))
                .map(|options| options.field_selector)
                .map_err(|status| status.message)
        };
        let narrowed = Ok(Some("metadata.name=a".to_owned()));
        assert_eq!(of(""), narrowed);
        assert_eq!(of("fieldSelector=metadata.name%3Da"), narrowed);
        let text = "fieldSelector metadata.name doesn't match requested name";
        assert_eq!(of("fieldSelector=metadata.name%3Db"), Err(text.to_owned()));
        assert_eq!(of("fieldSelector=spec.nodeName%3Db"), Err(text.to_owned()));
    }

    #[test]
    fn watches() {
        let watch = |options: &ListOptions| check_watch(&with_watch_defaults(options));
        for fine in [
            "",
            "resourceVersion=0",
            "resourceVersion=7",
            "allowWatchBookmarks=true",
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
            "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=3",
        ] {
            check(watch, fine, &[]);
        }
        check(
            watch,
            "resourceVersionMatch=NotOlderThan&resourceVersion=3",
            &[NEEDS_INITIAL],
        );
        check(watch, "resourceVersionMatch=NotOlderThan", &[NEEDS_INITIAL]);
        check(watch, "sendInitialEvents=true", &[NEEDS_MATCH]);
        check(watch, "sendInitialEvents=false", &[NEEDS_MATCH]);
        let unsupported =
            "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"";
        check(
            watch,
            "sendInitialEvents=true&resourceVersionMatch=Exact",
            &[NEEDS_MATCH, unsupported],
        );
        check(
            watch,
            "resourceVersionMatch=Exact&resourceVersion=3",
            &[NEEDS_INITIAL, unsupported],
        );
        check(
            watch,
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x",
            &[WITH_CONTINUE],
        );
    }
}
