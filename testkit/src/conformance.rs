//! What every object store under a lake must do: one suite, run against the GCS stand-in and a
//! local folder.
//!
//! The lake's commits stand on two promises checked here: a create-only put has one winner, and
//! an object is visible whole or not at all.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    WriteMultipart,
};

/// Runs every check under `folder`, which must be empty, and leaves it empty.
pub async fn check(store: &dyn ObjectStore, folder: &Path) -> Result<()> {
    whole_objects(store, folder)
        .await
        .context("whole objects")?;
    create_has_one_winner(store, folder)
        .await
        .context("create-only put")?;
    ranges(store, folder).await.context("ranges")?;
    conditions(store, folder)
        .await
        .context("conditional reads")?;
    odd_names(store, folder).await.context("odd names")?;
    lists(store, folder).await.context("lists")?;
    multipart(store, folder).await.context("multipart upload")?;
    for meta in store.list(Some(folder)).try_collect::<Vec<_>>().await? {
        store.delete(&meta.location).await?;
    }
    Ok(())
}

async fn whole_objects(store: &dyn ObjectStore, folder: &Path) -> Result<()> {
    let path = folder.clone().join("whole");
    let missing = store.get(&path).await;
    ensure!(
        matches!(missing, Err(Error::NotFound { .. })),
        "missing object: {missing:?}"
    );
    store.put(&path, PutPayload::from_static(b"one")).await?;
    store.put(&path, PutPayload::from_static(b"three")).await?;
    ensure!(
        store.get(&path).await?.bytes().await? == "three",
        "overwritten object"
    );
    let meta = store.head(&path).await?;
    ensure!(meta.size == 5, "size {}", meta.size);
    ensure!(meta.location == path, "location {}", meta.location);
    store.put(&path, PutPayload::new()).await?;
    ensure!(
        store.get(&path).await?.bytes().await?.is_empty(),
        "empty object"
    );
    store.delete(&path).await?;
    let gone = store.head(&path).await;
    ensure!(
        matches!(gone, Err(Error::NotFound { .. })),
        "deleted object: {gone:?}"
    );
    Ok(())
}

async fn create_has_one_winner(store: &dyn ObjectStore, folder: &Path) -> Result<()> {
    let path = folder.clone().join("00000000000000000001.json");
    let racers = (0..16).map(|racer| {
        let path = &path;
        async move {
            let payload = PutPayload::from(format!("racer {racer}"));
            let put = store.put_opts(path, payload, PutMode::Create.into()).await;
            (racer, put)
        }
    });
    let mut winner = None;
    for (racer, put) in futures::future::join_all(racers).await {
        match put {
            Ok(_) => ensure!(winner.replace(racer).is_none(), "two creates won"),
            Err(Error::AlreadyExists { .. }) => {}
            Err(error) => bail!("a loser got {error:?}"),
        }
    }
    let winner = winner.context("no create won")?;
    let kept = store.get(&path).await?.bytes().await?;
    ensure!(
        kept == format!("racer {winner}"),
        "a loser's bytes are kept"
    );
    store.delete(&path).await?;
    store
        .put_opts(
            &path,
            PutPayload::from_static(b"again"),
            PutMode::Create.into(),
        )
        .await?;
    Ok(())
}

async fn ranges(store: &dyn ObjectStore, folder: &Path) -> Result<()> {
    let path = folder.clone().join("ranges");
    store
        .put(&path, PutPayload::from_static(b"0123456789"))
        .await?;
    ensure!(
        store.get_range(&path, 2..5).await? == "234",
        "bounded range"
    );
    // A reader of a footer asks for more than there is.
    ensure!(
        store.get_range(&path, 8..20).await? == "89",
        "range over the end"
    );
    let parts = store.get_ranges(&path, &[0..1, 9..10, 4..6]).await?;
    ensure!(parts == ["0", "9", "45"], "several ranges: {parts:?}");
    for (range, expected) in [(GetRange::Suffix(3), "789"), (GetRange::Offset(7), "789")] {
        let options = GetOptions {
            range: Some(range),
            ..Default::default()
        };
        let result = store.get_opts(&path, options).await?;
        ensure!(
            result.meta.size == 10,
            "size of the whole object beside a range"
        );
        ensure!(result.range == (7..10), "range given: {:?}", result.range);
        ensure!(result.bytes().await? == expected, "open range");
    }
    let outside = store.get_range(&path, 10..12).await;
    ensure!(outside.is_err(), "a range outside the object: {outside:?}");
    Ok(())
}

async fn conditions(store: &dyn ObjectStore, folder: &Path) -> Result<()> {
    let path = folder.clone().join("conditions");
    let put = store.put(&path, PutPayload::from_static(b"v1")).await?;
    let tag = put.e_tag.context("a put gives an ETag")?;
    ensure!(
        store.head(&path).await?.e_tag.as_ref() == Some(&tag),
        "put and head agree on the ETag"
    );
    let same = GetOptions {
        if_match: Some(tag.clone()),
        ..Default::default()
    };
    ensure!(
        store.get_opts(&path, same.clone()).await?.bytes().await? == "v1",
        "if-match"
    );
    let unless = GetOptions {
        if_none_match: Some(tag),
        ..Default::default()
    };
    let unchanged = store.get_opts(&path, unless.clone()).await;
    ensure!(
        matches!(unchanged, Err(Error::NotModified { .. })),
        "if-none-match: {unchanged:?}"
    );
    store
        .put(&path, PutPayload::from_static(b"version 2"))
        .await?;
    let changed = store.get_opts(&path, same).await;
    ensure!(
        matches!(changed, Err(Error::Precondition { .. })),
        "if-match: {changed:?}"
    );
    ensure!(
        store.get_opts(&path, unless).await?.bytes().await? == "version 2",
        "if-none-match"
    );
    Ok(())
}

async fn odd_names(store: &dyn ObjectStore, folder: &Path) -> Result<()> {
    // What Hive partition values and users come up with.
    let names = [
        "a b",
        "city=São Paulo",
        "x=%2F",
        "plus+and&amp",
        "q?x=1#f",
        "<tag>\"quoted\"",
    ];
    for name in names {
        let path = folder.clone().join("odd").join(name).join("file");
        store.put(&path, PutPayload::from(name.to_owned())).await?;
        ensure!(
            store.get(&path).await?.bytes().await? == name,
            "object in {name}"
        );
        let listed: Vec<_> = store
            .list(Some(&folder.clone().join("odd").join(name)))
            .try_collect()
            .await?;
        ensure!(
            listed.len() == 1 && listed[0].location == path,
            "list of {name}: {listed:?}"
        );
    }
    let listed = store
        .list_with_delimiter(Some(&folder.clone().join("odd")))
        .await?;
    ensure!(
        listed.common_prefixes.len() == names.len(),
        "folders: {:?}",
        listed.common_prefixes
    );
    Ok(())
}

async fn lists(store: &dyn ObjectStore, folder: &Path) -> Result<()> {
    let root = folder.clone().join("lists");
    let keys: Vec<Path> = (0..25)
        .map(|n| {
            root.clone()
                .join(format!("hour={}", n % 5))
                .join(format!("{n:02}.parquet"))
        })
        .collect();
    for key in &keys {
        store.put(key, PutPayload::from_static(b"x")).await?;
    }
    // A neighbour whose name begins alike is not inside the folder.
    let neighbour = folder.clone().join("lists2").join("file");
    store.put(&neighbour, PutPayload::from_static(b"y")).await?;
    let mut expected = keys.clone();
    expected.sort();
    let mut found: Vec<Path> = store
        .list(Some(&root))
        .map_ok(|meta| meta.location)
        .try_collect()
        .await?;
    found.sort();
    ensure!(found == expected, "list: {found:?}");
    let mut after: Vec<Path> = store
        .list_with_offset(Some(&root), &expected[9])
        .map_ok(|meta| meta.location)
        .try_collect()
        .await?;
    after.sort();
    ensure!(after == expected[10..], "list after an offset: {after:?}");
    let folded = store.list_with_delimiter(Some(&root)).await?;
    ensure!(
        folded.objects.is_empty(),
        "objects at the top: {:?}",
        folded.objects
    );
    ensure!(
        folded.common_prefixes.len() == 5,
        "folders: {:?}",
        folded.common_prefixes
    );
    let nothing: Vec<_> = store
        .list(Some(&folder.clone().join("nothing")))
        .collect()
        .await;
    ensure!(
        nothing.is_empty(),
        "list of a folder that is not there: {nothing:?}"
    );
    Ok(())
}

async fn multipart(store: &dyn ObjectStore, folder: &Path) -> Result<()> {
    let path = folder.clone().join("multipart");
    let bytes: Bytes = (0..11 * 1024 * 1024_u32)
        .map(|n| (n % 251) as u8)
        .collect::<Vec<_>>()
        .into();
    let upload = store.put_multipart(&path).await?;
    let mut writer = WriteMultipart::new_with_chunk_size(upload, 5 * 1024 * 1024);
    for chunk in bytes.chunks(1024 * 1024) {
        writer.write(chunk);
    }
    let unseen = store.head(&path).await;
    ensure!(
        matches!(unseen, Err(Error::NotFound { .. })),
        "seen before its end: {unseen:?}"
    );
    writer.finish().await?;
    ensure!(
        store.get(&path).await?.bytes().await? == bytes,
        "joined parts"
    );
    store.delete(&path).await?;
    let mut upload = store.put_multipart(&path).await?;
    upload
        .put_part(PutPayload::from_static(b"given up"))
        .await?;
    upload.abort().await?;
    let gone = store.head(&path).await;
    ensure!(
        matches!(gone, Err(Error::NotFound { .. })),
        "seen after an abort: {gone:?}"
    );
    Ok(())
}
