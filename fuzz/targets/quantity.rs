//! Quantities: the canonical text is stable and means the same; sums and comparisons do not overflow.
#![no_main]

use corten_api::quantity::{Format, Quantity};
use corten_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (left, right) = text.split_once(' ').unwrap_or((text, "1"));
    let Ok(quantity) = bounded(left.len(), 512, || left.parse::<Quantity>()) else {
        return;
    };
    let printed = bounded(left.len(), 512, || quantity.to_string());
    let again: Quantity = printed.parse().expect("canonical text can be read");
    // Binary amounts are printed as whole numbers, rounded away from zero, and without a suffix they are decimal ones
    // when they are read again; so it is upstream.
    if quantity.format() == Format::BinarySi {
        assert_eq!(again.value(), quantity.value(), "{left:?} is {printed:?}");
    } else {
        assert_eq!(again, quantity, "{left:?} is {printed:?}");
        assert_eq!(again.to_string(), printed);
    }
    let _ = (quantity.value(), quantity.milli_value(), quantity.to_f64());
    if let Ok(other) = right.parse::<Quantity>() {
        assert_eq!(quantity.cmp(&other), other.cmp(&quantity).reverse());
        let mut sum = quantity.clone();
        sum.add(&other);
        let mut difference = sum;
        difference.sub(&other);
        let _ = difference.to_string();
    }
});
