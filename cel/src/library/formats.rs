//! Named formats: `format.named("uuid")`, `format.uuid()`, `.validate(text)`.
//!
//! Source: `k8s.io/apiserver/pkg/cel/library/format.go`.

use base64::Engine as _;

use super::operators::text;
use super::{Call, Entry, url};
use crate::error::{Eval, EvalError};
use crate::names;
use crate::opaque::Opaque;
use crate::time;
use crate::value::Value;

pub struct Format {
    pub name: &'static str,
    /// What is wrong with a text; empty when nothing is.
    pub validate: fn(&str) -> Vec<String>,
    /// The length of a pattern that would do the same, by which the cost is counted.
    pub pattern_size: u64,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The longest of the pattern sizes, which static estimates assume.
pub const MAX_PATTERN_SIZE: u64 = 128;

fn unless(fine: bool, text: &str) -> Vec<String> {
    if fine { Vec::new() } else { vec![text.to_owned()] }
}

static FORMATS: [Format; 13] = [
    Format {
        name: "dns1123Label",
        validate: names::dns_label,
        pattern_size: 30,
    },
    Format {
        name: "dns1123Subdomain",
        validate: names::dns_subdomain,
        pattern_size: 60,
    },
    Format {
        name: "dns1035Label",
        validate: names::dns_1035_label,
        pattern_size: 30,
    },
    Format {
        name: "qualifiedName",
        validate: names::qualified_name,
        pattern_size: 60,
    },
    Format {
        name: "dns1123LabelPrefix",
        validate: |own| names::dns_label(&names::mask_trailing_dash(own)),
        pattern_size: 30,
    },
    Format {
        name: "dns1123SubdomainPrefix",
        validate: |own| names::dns_subdomain(&names::mask_trailing_dash(own)),
        pattern_size: 60,
    },
    Format {
        name: "dns1035LabelPrefix",
        validate: |own| names::dns_1035_label(&names::mask_trailing_dash(own)),
        pattern_size: 30,
    },
    Format {
        name: "labelValue",
        validate: names::label_value,
        pattern_size: 40,
    },
    Format {
        name: "uri",
        validate: |own| match url::Url::parse_request(own) {
            Ok(_) => Vec::new(),
            Err(error) => vec![error],
        },
        pattern_size: 1000,
    },
    Format {
        name: "uuid",
        validate: |own| unless(is_uuid(own), "does not match the UUID format"),
        pattern_size: 36,
    },
    Format {
        name: "byte",
        validate: |own| {
            let fine = !own.is_empty() && base64::engine::general_purpose::STANDARD.decode(own).is_ok();
            unless(fine, "invalid base64")
        },
        pattern_size: 84,
    },
    Format {
        name: "date",
        validate: |own| unless(own.len() == 10 && time::date_time(own).is_ok(), "invalid date"),
        pattern_size: 80,
    },
    Format {
        name: "datetime",
        validate: |own| unless(time::timestamp(own).is_ok(), "invalid datetime"),
        pattern_size: 80,
    },
];

fn is_uuid(own: &str) -> bool {
    let plain: Vec<u8> = own.bytes().filter(|b| *b != b'-').collect();
    let dashes: Vec<usize> = own
        .bytes()
        .enumerate()
        .filter(|(_, b)| *b == b'-')
        .map(|(idx, _)| idx)
        .collect();
    plain.len() == 32
        && plain.iter().all(u8::is_ascii_hexdigit)
        && (dashes.is_empty() || dashes == [8, 13, 18, 23])
}

const MAKES: &str = "make_format () kubernetes.NamedFormat";

macro_rules! named {
    ($($idx:literal $name:literal)*) => {
        pub const TABLE: &[Entry] = &[
            Entry("format.named", by_name, "format-named (string) optional(kubernetes.NamedFormat)"),
            Entry("validate", validate, "format-validate kubernetes.NamedFormat.(string) optional(list(string))"),
            $(Entry(concat!("format.", $name), |_, _| Ok(Value::Opaque(Opaque::Format(&FORMATS[$idx]))), MAKES),)*
        ];
    };
}

named! {
    0 "dns1123Label" 1 "dns1123Subdomain" 2 "dns1035Label" 3 "qualifiedName" 4 "dns1123LabelPrefix"
    5 "dns1123SubdomainPrefix" 6 "dns1035LabelPrefix" 7 "labelValue" 8 "uri" 9 "uuid" 10 "byte" 11 "date" 12 "datetime"
}

fn by_name<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let wanted = text(&args[0])?;
    let found = FORMATS.iter().find(|own| own.name == &**wanted);
    Ok(match found {
        Some(own) => Value::some(Value::Opaque(Opaque::Format(own))),
        None => Value::Optional(None),
    })
}

fn validate<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let Value::Opaque(Opaque::Format(own)) = &args[0] else {
        return Err(EvalError::no_overload());
    };
    let errors = (own.validate)(text(&args[1])?);
    Ok(if errors.is_empty() {
        Value::Optional(None)
    } else {
        Value::some(Value::list(errors.into_iter().map(Value::str).collect()))
    })
}
