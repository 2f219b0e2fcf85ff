//! Events of tracing as flat lines of JSON.

use std::fmt;
use std::io::Write as _;

use chrono::{SecondsFormat, Utc};
use drumline_master::LogTail;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Keeps each line, and may write it to stderr.
pub(super) struct Lines {
    component: String,
    tail: LogTail,
    stderr: bool,
}

/// Fields of a span or an event, by name.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Lines {
    pub(super) fn new(component: &str, tail: LogTail, stderr: bool) -> Self {
        Self {
            component: component.to_owned(),
            tail,
            stderr,
        }
    }
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.0.extend(fields.0.clone());
            }
        }
        event.record(&mut line);
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let level = metadata.level().as_str();
        for (name, value) in [
            ("timestamp", now.as_str()),
            ("level", level),
            ("component", &self.component),
            ("target", metadata.target()),
        ] {
            line.0.insert(name.to_owned(), Value::from(value));
        }
        let text = Value::Object(line.0).to_string();
        if self.stderr {
            // A closed stderr has no reader to miss it.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
        self.tail.push(text);
    }
}

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_line_has_its_own_fields_and_those_of_the_spans_around_it() {
        let tail = LogTail::default();
        let lines = Lines::new("master", tail.clone(), false);
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            let application = tracing::info_span!("application", application = "019a");
            let _application = application.enter();
            let job = tracing::info_span!("job", job = tracing::field::Empty);
            job.record("job", "019b");
            let _job = job.enter();
            tracing::warn!(stage = 2, error = %"no\nroom", "task failed");
        });
        let kept = tail.last(1);
        let line: Value = serde_json::from_str(&kept[0].text).unwrap();
        assert_eq!(line["application"], "019a");
        assert_eq!(line["job"], "019b");
        assert_eq!(line["stage"], 2);
        assert_eq!(line["error"], "no\nroom");
        assert_eq!(line["message"], "task failed");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["component"], "master");
        assert_eq!(kept[0].text.lines().count(), 1);
    }
}
