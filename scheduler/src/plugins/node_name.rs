//! NodeName: a Pod that names its node goes nowhere else.

use crate::node::Node;
use crate::requirements::Requirements;

pub const REASON: &str = "node(s) didn't match the requested node name";

pub fn filter(requirements: &Requirements, node: &Node) -> bool {
    requirements.node_name.is_empty() || *requirements.node_name == *node.name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_node_passes() {
        let check = |requested: &str, want| {
            let requirements = Requirements {
                node_name: requested.to_owned(),
                ..Requirements::default()
            };
            assert_eq!(filter(&requirements, &Node::named("a")), want, "{requested}");
        };
        check("", true);
        check("a", true);
        check("b", false);
    }
}
