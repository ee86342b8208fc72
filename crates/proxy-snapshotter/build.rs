//! Compiles the .proto file with protox, so that no protoc is needed. It reads nothing else.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    tonic_prost_build::configure()
        .build_client(true)
        // For the tests, which play a snapshotter that lies.
        .build_server(true)
        .compile_fds(protox::compile(["snapshots.proto"], ["proto"])?)?;
    Ok(())
}
