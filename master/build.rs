//! A release build has the status page in it, so it is built again when the page is. (A debug build reads
//! the page's files whenever they are asked for.)

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A debug build finds the files only below a folder that was there when it was compiled. Where it cannot
    // be made, such a build is without the page, as it says at `/`.
    let _ = std::fs::create_dir_all("../web/dist");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rerun-if-changed=../web/dist");
    }
}
