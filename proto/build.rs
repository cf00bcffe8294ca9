//! Compiles `protos/` with `protox`, so that building Corten needs no `protoc`.

use std::error::Error;

const FILES: [&str; 6] = [
    "cri.proto",
    "containerd_content.proto",
    "containerd_events.proto",
    "containerd_images.proto",
    "containerd_leases.proto",
    "containerd_types.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=protos");
    // Our own protocol is served as well as called.
    let peers = protox::compile(["peers.proto"], ["protos"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(peers)?;
    let descriptors = protox::compile(FILES, ["protos"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .btree_map(".")
        .bytes(".containerd.services.content.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
