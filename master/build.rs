//! A release build has the status page in it, so it is built again when the page is. (A debug build reads
//! the page's files whenever they are asked for.)

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        // Where there is no page yet, the folder in which it will appear.
        let built = Path::new("../web/dist");
        let watched = if built.exists() {
            "../web/dist"
        } else {
            "../web"
        };
        println!("cargo::rerun-if-changed={watched}");
    }
}
