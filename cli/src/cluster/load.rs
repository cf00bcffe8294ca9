//! `corten cluster load`: an image into every node's container runtime, through its socket in the node's data folder.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use corten_nodeagent::runtime::Runtime;
use corten_nodeagent::runtime::cri::CriRuntime;
use corten_nodeagent::runtime::import::PAUSE_IMAGE;
use futures::future::try_join_all;

use super::state::{Cluster, Host, Role};

/// Imports `image` on all nodes at once.
///
/// # Errors
/// There is no such cluster, the file is no image, or a node's runtime refuses it.
pub async fn load(name: &str, image: &Path) -> Result<()> {
    let cluster = Cluster::open(name)?;
    ensure!(image.is_file(), "{} is no file", image.display());
    let nodes: Vec<&Host> = cluster.with_role(Role::Node).collect();
    let imports = nodes.iter().map(|host| import(&cluster, host, image));
    for (host, names) in nodes.iter().zip(try_join_all(imports).await?) {
        println!("{}: {}", host.name, names.join(", "));
    }
    Ok(())
}

async fn import(cluster: &Cluster, host: &Host, image: &Path) -> Result<Vec<String>> {
    let socket = cluster.data_dir(host).join("containerd/containerd.sock");
    let runtime =
        CriRuntime::connect(&socket, PAUSE_IMAGE).with_context(|| format!("reach {}", host.name))?;
    runtime
        .import_image(image)
        .await
        .with_context(|| format!("import {} on {}", image.display(), host.name))
}
