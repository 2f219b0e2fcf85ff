//! Streams whose topics get columns as their records do.
//!
//! A worker that meets fields which are no columns, or do not fit theirs, stands still before the first such record
//! and names them. Here they are added to the topic's schema, and the definition is applied as a user would: the
//! tables get the columns, and the stream goes on from what its tables hold. So no file is written with columns that
//! its table does not have, and of several workers that find different fields each adds its own. What cannot be
//! a column is left out from then on, and what cannot be widened makes dead letters.

use drumline_proto::v1::{
    FailureKind, FieldDefinition, FoundField, StreamDefinition, TopicDefinition,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::apply::Applier;
use super::service;
use crate::Error;

/// What workers find and nobody has added yet; what does not fit in is told again.
pub(crate) const WAITING: usize = 64;

/// Fields of a stream that need columns.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) stream: String,
    pub(crate) fields: Vec<FoundField>,
}

/// Adds columns until `shutdown`.
pub(crate) async fn run(
    applier: Applier,
    mut found: mpsc::Receiver<Found>,
    shutdown: CancellationToken,
) {
    loop {
        let Found { stream, fields } = tokio::select! {
            () = shutdown.cancelled() => break,
            told = found.recv() => match told {
                Some(told) => told,
                None => break,
            },
        };
        let added = tokio::select! {
            () = shutdown.cancelled() => break,
            added = add(&applier, &stream, fields) => added,
        };
        if let Err(error) = added {
            warn!(stream, %error, "new fields are no columns yet");
            // Told meanwhile, and told again: what waits is as old as what failed.
            while found.try_recv().is_ok() {}
        }
    }
}

async fn add(applier: &Applier, stream: &str, fields: Vec<FoundField>) -> Result<(), Error> {
    if applied(applier, stream, &fields, false).await? {
        return Ok(());
    }
    // One of them is to blame, and the stream is not to stand still for it.
    for field in fields {
        let field = std::slice::from_ref(&field);
        if !applied(applier, stream, field, false).await? {
            applied(applier, stream, field, true).await?;
        }
    }
    Ok(())
}

/// Whether the definition with these fields could be applied; if it was not the definition's fault, an error.
async fn applied(
    applier: &Applier,
    stream: &str,
    fields: &[FoundField],
    left_out: bool,
) -> Result<bool, Error> {
    let snapshot = applier.catalog.refresh().await?;
    let Some(kept) = snapshot.stream(stream) else {
        return Ok(true);
    };
    let revision = kept.revision;
    let mut definition = service::decode(stream, &kept.definition)?;
    let is_changed = match left_out {
        true => leave_out(&mut definition, fields),
        false => extend(&mut definition, fields),
    };
    if !is_changed {
        return Ok(true);
    }
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    let fields = names.join(", ");
    let response = applier.apply_after(definition, Some(revision)).await;
    match response.failure {
        None if left_out => warn!(
            stream,
            fields, "fields are left out: they can be no columns"
        ),
        None => info!(stream, fields, "new fields have columns"),
        Some(failure) if failure.kind() == FailureKind::User => {
            let reason = failure.message;
            warn!(stream, fields, reason, "fields can be no columns");
            return Ok(false);
        }
        Some(failure) => {
            return Err(Error::NewColumns {
                stream: stream.to_owned(),
                reason: failure.message,
            });
        }
    }
    Ok(true)
}

/// The topic that a field was found in, if its columns are to follow.
fn evolving<'a>(
    definition: &'a mut StreamDefinition,
    label: &str,
) -> Option<&'a mut TopicDefinition> {
    let mut topics = definition.topics.iter_mut();
    topics.find(|topic| topic.label() == label && evolves(topic))
}

fn evolves(topic: &TopicDefinition) -> bool {
    topic.decode.as_ref().is_some_and(|decode| decode.evolve)
}

/// Adds the fields that the definition does not have, and widens those that it has; whether there were any.
fn extend(definition: &mut StreamDefinition, fields: &[FoundField]) -> bool {
    let mut is_changed = false;
    for field in fields {
        let Some(topic) = evolving(definition, &field.topic) else {
            continue;
        };
        let left_out = topic.decode.iter().flat_map(|decode| &decode.left_out);
        if !left_out.into_iter().any(|name| *name == field.name) {
            is_changed |= put(topic, &field.name, &field.r#type);
        }
    }
    is_changed
}

fn put(topic: &mut TopicDefinition, name: &str, sql_type: &str) -> bool {
    let mut known = topic.schema.iter_mut();
    match known.find(|field| field.name.eq_ignore_ascii_case(name)) {
        None => {
            topic.schema.push(FieldDefinition {
                name: name.to_owned(),
                r#type: sql_type.to_owned(),
                required: false,
            });
            true
        }
        Some(field) if field.name == name && is_wider(&field.r#type, sql_type) => {
            sql_type.clone_into(&mut field.r#type);
            true
        }
        Some(_) => false,
    }
}

fn leave_out(definition: &mut StreamDefinition, fields: &[FoundField]) -> bool {
    let mut is_changed = false;
    for field in fields {
        let topic = evolving(definition, &field.topic);
        if let Some(decode) = topic.and_then(|topic| topic.decode.as_mut())
            && !decode.left_out.contains(&field.name)
        {
            decode.left_out.push(field.name.clone());
            is_changed = true;
        }
    }
    is_changed
}

/// Whether a column of the second type holds everything that one of the first does, and more.
fn is_wider(known: &str, wanted: &str) -> bool {
    let words = |name: &str| name.trim().to_ascii_lowercase();
    let rank = |name: &str| {
        Some(match words(name).as_str() {
            "tinyint" => 1,
            "smallint" | "int2" => 2,
            "integer" | "int" | "int4" => 3,
            "bigint" | "long" | "int8" => 4,
            _ => return None,
        })
    };
    match (rank(known), rank(wanted)) {
        (Some(known), Some(wanted)) => wanted > known,
        (Some(known), None) => known < 4 && words(wanted) == "double",
        (None, None) => {
            matches!(words(known).as_str(), "real" | "float" | "float4")
                && words(wanted) == "double"
        }
        (None, Some(_)) => false,
    }
}

/// Takes over what a definition has got by itself since somebody wrote it, so that to apply it again changes nothing.
pub(super) fn carry_over(definition: &mut StreamDefinition, kept: &StreamDefinition) {
    for old in kept.topics.iter().filter(|topic| evolves(topic)) {
        let Some(topic) = evolving(definition, old.label().as_str()) else {
            continue;
        };
        for field in &old.schema {
            put(topic, &field.name, &field.r#type);
        }
        let left_out = old.decode.iter().flat_map(|decode| &decode.left_out);
        if let Some(decode) = &mut topic.decode {
            for name in left_out {
                if !decode.left_out.contains(name) {
                    decode.left_out.push(name.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use drumline_proto::v1::Decode;

    use super::*;

    fn topic(name: &str, evolve: bool, fields: &[(&str, &str)]) -> TopicDefinition {
        let fields = fields.iter();
        TopicDefinition {
            topic: name.to_owned(),
            schema: fields
                .map(|(name, sql_type)| FieldDefinition {
                    name: (*name).to_owned(),
                    r#type: (*sql_type).to_owned(),
                    required: false,
                })
                .collect(),
            decode: Some(Decode {
                evolve,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn stream(topics: &[TopicDefinition]) -> StreamDefinition {
        StreamDefinition {
            topics: topics.to_vec(),
            ..Default::default()
        }
    }

    fn found(topic: &str, name: &str, sql_type: &str) -> FoundField {
        FoundField {
            topic: topic.to_owned(),
            name: name.to_owned(),
            r#type: sql_type.to_owned(),
        }
    }

    fn columns(topic: &TopicDefinition) -> Vec<(&str, &str)> {
        let fields = topic.schema.iter();
        fields
            .map(|field| (field.name.as_str(), field.r#type.as_str()))
            .collect()
    }

    #[test]
    fn fields_are_added_once_and_to_topics_that_evolve() {
        let mut definition = stream(&[topic("fixed", false, &[]), topic("open", true, &[])]);
        let all = [
            found("fixed", "a", "bigint"),
            found("open", "a", "bigint"),
            found("open", "A", "bigint"),
            found("gone", "a", "bigint"),
        ];
        assert!(extend(&mut definition, &all));
        assert!(columns(&definition.topics[0]).is_empty());
        assert_eq!(columns(&definition.topics[1]), [("a", "bigint")]);
        assert!(!extend(&mut definition, &all));
    }

    #[test]
    fn types_widen_and_never_become_narrower() {
        for (known, wanted, after) in [
            ("INT", "bigint", "bigint"),
            ("integer", "double", "double"),
            ("smallint", "integer", "integer"),
            ("real", "double", "double"),
            ("double", "bigint", "double"),
            ("bigint", "double", "bigint"),
            ("bigint", "integer", "bigint"),
            ("varchar", "double", "varchar"),
            ("integer", "varchar", "integer"),
        ] {
            let mut definition = stream(&[topic("t", true, &[("a", known)])]);
            let is_changed = extend(&mut definition, &[found("t", "a", wanted)]);
            assert_eq!(columns(&definition.topics[0]), [("a", after)]);
            assert_eq!(is_changed, known != after, "{known} {wanted}");
        }
    }

    #[test]
    fn what_can_be_no_column_is_left_out_and_not_asked_for_again() {
        let mut definition = stream(&[topic("t", true, &[("n", "integer")])]);
        let all = [found("t", "a", "double"), found("t", "n", "double")];
        assert!(leave_out(&mut definition, &all));
        assert!(!leave_out(&mut definition, &all));
        assert!(!extend(&mut definition, &all));
        assert_eq!(columns(&definition.topics[0]), [("n", "integer")]);
    }

    #[test]
    fn a_definition_that_is_applied_again_keeps_what_was_found() {
        let written = stream(&[
            topic("t", true, &[("n", "integer")]),
            topic("u", false, &[("n", "integer")]),
        ]);
        let mut kept = written.clone();
        extend(
            &mut kept,
            &[found("t", "n", "double"), found("t", "a", "json")],
        );
        leave_out(&mut kept, &[found("t", "b", "json")]);
        let mut again = written.clone();
        carry_over(&mut again, &kept);
        assert_eq!(again, kept);
        // Who does not want it any more says so.
        let mut fixed = stream(&[topic("t", false, &[("n", "integer")])]);
        carry_over(&mut fixed, &kept);
        assert_eq!(columns(&fixed.topics[0]), [("n", "integer")]);
    }
}
