// So that the build dependencies are built.
fn main() {}
