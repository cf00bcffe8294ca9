//! What documents and tables say of the fields every object has.

/// The description of a field every object has, in our words.
pub fn describe(field: &str) -> &'static str {
    match field {
        "apiVersion" => "The versioned schema of this object.",
        "kind" => "The REST resource this object stands for.",
        "metadata" => "Standard metadata of the object.",
        "name" => "Name of the object, unique within its namespace and resource.",
        "creationTimestamp" => "When the server made the object.",
        _ => "",
    }
}
