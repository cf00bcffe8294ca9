//! Small images made on the spot from the machine's static busybox, so that no registry is needed.
//!
//! Knows the `docker save` archive form. Must not know clusters or how an image is loaded into one.

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Where Debian's `busybox-static` puts its binary.
const BUSYBOX: &str = "/usr/bin/busybox";

/// Shell script of the web image: answers every request with the Pod's name and its version, and on
/// `SIGTERM` goes on answering for two seconds, as a server that drains its connections does.
const WEB_SCRIPT: &str = r#"#!/bin/sh
mkdir -p /www
printf '%s %s\n' "$(hostname)" "$VERSION" > /www/index.html
httpd -f -p "${PORT:-8080}" -h /www &
server=$!
trap 'sleep 2; kill $server; exit 0' TERM
while kill -0 $server 2>/dev/null; do wait $server; done
"#;

/// What goes into an image besides busybox.
#[derive(Debug, Clone)]
pub struct Image<'a> {
    /// Full reference, such as `corten.dev/hello:1`.
    pub reference: &'a str,
    /// Extra files: absolute path, mode, content.
    pub files: Vec<(&'a str, u32, Vec<u8>)>,
    /// Environment in `NAME=value` form, added to `PATH`.
    pub env: Vec<String>,
    /// The image's entry point and arguments.
    pub command: Vec<&'a str>,
}

/// The web server of `examples/hello.yaml`; `version` shows in its answers.
///
/// # Errors
/// When busybox cannot be read.
pub fn web(reference: &str, version: &str) -> Result<Vec<u8>> {
    build(&Image {
        reference,
        files: vec![("/serve", 0o755, WEB_SCRIPT.as_bytes().to_vec())],
        env: vec![format!("VERSION={version}")],
        command: vec!["/serve"],
    })
}

/// A plain busybox with a shell, which sleeps unless told otherwise.
///
/// # Errors
/// When busybox cannot be read.
pub fn busybox(reference: &str) -> Result<Vec<u8>> {
    build(&Image {
        reference,
        files: Vec::new(),
        env: Vec::new(),
        command: vec!["/bin/sh"],
    })
}

/// An archive as `docker save` writes it: one layer, its configuration, and `manifest.json`.
///
/// # Errors
/// When busybox cannot be read or run.
pub fn build(image: &Image) -> Result<Vec<u8>> {
    let layer = layer(image)?;
    let mut env = vec!["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_string()];
    env.extend(image.env.iter().cloned());
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": env, "Entrypoint": image.command, "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))] },
        "history": [{ "created_by": "cargo xtask" }],
    })
    .to_string()
    .into_bytes();
    let config_name = format!("{}.json", hex(&config));
    let layer_name = format!("{}/layer.tar", hex(&layer));
    let manifest = json!([{ "Config": config_name, "RepoTags": [image.reference], "Layers": [layer_name] }]);
    let mut archive = tar::Builder::new(Vec::new());
    file(&mut archive, &config_name, 0o644, &config)?;
    file(&mut archive, &layer_name, 0o644, &layer)?;
    file(
        &mut archive,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    )?;
    Ok(archive.into_inner()?)
}

fn layer(image: &Image) -> Result<Vec<u8>> {
    let busybox = std::fs::read(BUSYBOX)
        .with_context(|| format!("read {BUSYBOX} (Debian: apt-get install busybox-static)"))?;
    let listing = std::process::Command::new(BUSYBOX)
        .arg("--list")
        .output()
        .context("run busybox --list")?;
    let mut layer = tar::Builder::new(Vec::new());
    for (directory, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("proc/", 0o755),
        ("sys/", 0o755),
        ("dev/", 0o755),
        ("root/", 0o700),
        ("tmp/", 0o1777),
        ("var/", 0o755),
    ] {
        let mut header = header(0, mode, tar::EntryType::Directory);
        layer.append_data(&mut header, directory, std::io::empty())?;
    }
    file(&mut layer, "bin/busybox", 0o755, &busybox)?;
    for applet in String::from_utf8_lossy(&listing.stdout)
        .lines()
        .filter(|applet| *applet != "busybox")
    {
        let mut header = header(0, 0o777, tar::EntryType::Symlink);
        layer.append_link(&mut header, format!("bin/{applet}"), "/bin/busybox")?;
    }
    file(
        &mut layer,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    file(&mut layer, "etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    for (path, mode, content) in &image.files {
        file(&mut layer, path.trim_start_matches('/'), *mode, content)?;
    }
    Ok(layer.into_inner()?)
}

fn file(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(content.len() as u64, mode, tar::EntryType::Regular);
    Ok(archive.append_data(&mut header, path, content)?)
}

/// The same input gives the same bytes: no time and no owner but root.
fn header(size: u64, mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
