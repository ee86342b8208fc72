//! Compiles the two .proto files with protox, so that no protoc is needed, and generates messages, clients and
//! servers. It reads nothing but the .proto files.

use prost::Message;
use std::error::Error;
use std::path::Path;

const CRI: &str = "runtime/v1/api.proto";
const OWN: &str = "corten/v1/images.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let set = protox::compile([CRI], ["proto"])?;
    let out = std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?;
    // The descriptor of the CRI is embedded before anything of our own is added to it.
    std::fs::write(Path::new(&out).join("cri_v1.bin"), set.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        // Credentials, and variables that often are: their Debug is written by hand in redact.rs.
        .skip_debug([".runtime.v1.AuthConfig", ".runtime.v1.KeyValue"])
        .compile_fds(set)?;

    // The CRI's messages that ours use are those above. prost writes the CRI's services again all the same, so this
    // goes to a folder of its own, where nobody includes them.
    let own_out = Path::new(&out).join("own");
    std::fs::create_dir_all(&own_out)?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .extern_path(".runtime.v1", "crate::v1")
        .out_dir(own_out)
        .compile_fds(protox::compile([OWN], ["proto"])?)?;
    Ok(())
}
