//! What no source file may do, whatever else it does: rows of the security checklist that only a look at all files can show.
//!
//! What follows `#[cfg(test)]` in a file is not looked at, nor are files named `tests.rs`, nor folders of tests and benches.

use std::path::Path;

use anyhow::{Context, Result};

/// Below these folders, none of these texts; with the row of the checklist and why.
const FORBIDDEN: &[(&[&str], &[&str], &str)] = &[
    (
        &["nodeagent/src", "netd/src"],
        &["TcpListener", "UnixListener", "UdpSocket"],
        "X7: no port listens on a node; agents dial out",
    ),
    (
        &[
            "nodeagent/src",
            "netd/src",
            "apiserver/src",
            "controllers/src",
            "scheduler/src",
            "client/src",
            "store/src",
            "cli/src",
        ],
        &[
            r#"new("sh")"#,
            r#"new("bash")"#,
            r#"new("/bin/sh")"#,
            r#"new("/bin/bash")"#,
        ],
        "X27: programs are run with lists of arguments, never by a shell",
    ),
    (
        &["netd/src", "nodeagent/src", "cli/src"],
        &[r#"/route_localnet""#, "route_localnet=", r#""route_localnet""#],
        "X20: 127.0.0.0/8 stays on its host",
    ),
];

/// Every line that does what it may not.
///
/// # Errors
/// Files that cannot be read.
pub fn broken(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (folders, texts, why) in FORBIDDEN {
        for folder in *folders {
            look(&root.join(folder), &mut |file, source| {
                let own = source.split("#[cfg(test)]").next().unwrap_or_default();
                for (number, line) in own.lines().enumerate() {
                    let code = line.split("//").next().unwrap_or_default();
                    if texts.iter().any(|text| code.contains(text)) {
                        found.push(format!("{}:{}: {why}", file.display(), number + 1));
                    }
                }
            })?;
        }
    }
    Ok(found)
}

fn look(folder: &Path, each: &mut impl FnMut(&Path, &str)) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            look(&path, each)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
            let source =
                std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            each(&path, &source);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_does_what_none_may() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = broken(own.parent().expect("it is below the root")).expect("the sources");
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    #[test]
    fn what_is_forbidden_is_found() {
        let dir = std::env::temp_dir().join(format!("corten-rules-{}", std::process::id()));
        for folder in FORBIDDEN.iter().flat_map(|(folders, ..)| *folders) {
            std::fs::create_dir_all(dir.join(folder)).expect("a folder");
        }
        let source = "// TcpListener\nlet port = TcpListener::bind(at);\n#[cfg(test)]\nTcpListener";
        std::fs::write(dir.join("netd/src/a.rs"), source).expect("a file");
        let found = broken(&dir);
        std::fs::remove_dir_all(&dir).expect("removed");
        let found = found.expect("looked");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("a.rs:2: X7"), "{found:?}");
    }
}
