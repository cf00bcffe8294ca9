//! Strategic merge patch: lists merge by their key, `$patch` directives delete and replace.
