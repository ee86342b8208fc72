//! Compiles the .proto with protox, so that no protoc is needed, and generates messages, client and server.
//! It reads nothing but the .proto.

use prost::Message;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let set = protox::compile(["runtime/v1/api.proto"], ["proto"])?;
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?;
    std::fs::write(Path::new(&out).join("cri_v1.bin"), set.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        // Credentials, and variables that often are: their Debug is written by hand in lib.rs.
        .skip_debug([".runtime.v1.AuthConfig", ".runtime.v1.KeyValue"])
        .compile_fds(set)?;
    Ok(())
}
