//! The name of a template: a short hash that is the same in every version of this program.
//!
//! Pure.

#![deny(clippy::disallowed_methods)]

use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::sets::canonical;

/// Letters and digits that spell no words. Source: apimachinery `rand.SafeEncodeString`.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a over the canonical JSON, then `collision_count`, written in safe letters.
pub fn template_hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    let text = canonical(template).to_string();
    let mut hash = fnv1a(0x811c_9dc5, text.as_bytes());
    if let Some(count) = collision_count {
        hash = fnv1a(hash, &count.to_le_bytes());
    }
    hash.to_string()
        .bytes()
        .map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()]))
        .collect()
}

fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Container, PodSpec};

    #[track_caller]
    fn check(image: &str, collisions: Option<i32>, hash: &str) {
        let container = Container {
            name: "web".into(),
            image: Some(image.into()),
            ..Default::default()
        };
        let template = PodTemplateSpec {
            spec: Some(PodSpec {
                containers: vec![container],
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(template_hash(&template, collisions), hash);
    }

    #[test]
    fn the_hash_is_stable_and_follows_the_template() {
        check("web:1", None, "7d4cf87ddf");
        check("web:2", None, "64496564bd");
        check("web:1", Some(1), "ddbbc9f64");
    }

    #[test]
    fn fnv_matches_its_published_values() {
        assert_eq!(fnv1a(0x811c_9dc5, b""), 0x811c_9dc5);
        assert_eq!(fnv1a(0x811c_9dc5, b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(0x811c_9dc5, b"foobar"), 0xbf9c_f968);
    }
}
