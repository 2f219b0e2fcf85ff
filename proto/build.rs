//! Compiles the contracts without an installed `protoc`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["applications", "streams", "cluster", "tasks"]
        .map(|name| format!("drumline/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    // Definitions are kept and shown as JSON: unknown keys are tolerated, absent ones are zero.
    tonic_prost_build::configure()
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".", "#[serde(default)]")
        .compile_fds(descriptors)?;
    Ok(())
}
