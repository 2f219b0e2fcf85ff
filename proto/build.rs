//! Compiles the contracts without an installed `protoc`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["access", "applications", "streams", "cluster", "tasks"]
        .map(|name| format!("drumline/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let mut methods = String::from("&[\n");
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service, method) = (file.package(), service.name(), method.name());
                methods.push_str(&format!("    \"/{package}.{service}/{method}\",\n"));
            }
        }
    }
    methods.push_str("]\n");
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(format!("{out}/methods.rs"), methods)?;
    // Definitions are kept and shown as JSON: unknown keys are tolerated, absent ones are zero.
    tonic_prost_build::configure()
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".", "#[serde(default)]")
        .compile_fds(descriptors)?;
    Ok(())
}
