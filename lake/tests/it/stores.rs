use drumline_lake::{Stores, conformance};

#[tokio::test]
async fn a_lake_in_memory_conforms() {
    conformance::check_lake("memory:///some/lake", Stores::from_env()).await;
}

#[tokio::test]
async fn a_lake_on_disk_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a lake");
    conformance::check_lake(root.to_str().unwrap(), Stores::from_env()).await;
}
