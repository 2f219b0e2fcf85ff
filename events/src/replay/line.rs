//! One log line → its records. The mapping is told in the parent module.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Event, Topic};

/// Appends the records of one line: the page view first, then what else it is.
pub(super) fn read(line: &[u8], events: &mut Vec<Event>) -> Result<(), String> {
    // serde would take a list of the fields' values as well.
    if !line.starts_with(b"{") {
        return Err("expected a JSON object".into());
    }
    let entry: Entry<'_> = serde_json::from_slice(line).map_err(|error| reason(&error))?;
    let (city, state) = match entry.location.as_deref() {
        Some(location) => city_and_state(location),
        None => (None, None),
    };
    let person = Person {
        city,
        zip: None,
        state,
        user_agent: entry.user_agent.as_deref(),
        lon: None,
        lat: None,
        user_id: &entry.user_id,
        last_name: entry.last_name.as_deref(),
        first_name: entry.first_name.as_deref(),
        gender: entry.gender.as_deref(),
        registration: entry.registration,
    };
    let mut push = |topic, record: serde_json::Result<Vec<u8>>| -> Result<(), String> {
        let json = record.map_err(|error| error.to_string())?;
        let key = match entry.user_id.as_ref() {
            "" => entry.session_id.to_string(),
            user => user.to_owned(),
        };
        events.push(Event {
            topic,
            key,
            ts_millis: entry.ts,
            json,
        });
        Ok(())
    };
    push(
        Topic::PageViewEvents,
        serde_json::to_vec(&PageView::of(&entry, &person)),
    )?;
    match entry.page.as_ref() {
        "NextSong" => push(
            Topic::ListenEvents,
            serde_json::to_vec(&Listen::of(&entry, &person)),
        ),
        "Login" => {
            let success = entry.status.is_some_and(|status| status < 400);
            push(
                Topic::AuthEvents,
                serde_json::to_vec(&Auth::of(&entry, &person, success)),
            )
        }
        "Logout" => push(
            Topic::AuthEvents,
            serde_json::to_vec(&Auth::of(&entry, &person, true)),
        ),
        _ => Ok(()),
    }
}

/// Splits "City, ST" at its last comma. "NY-NJ-PA" is New York: the first state is the one the
/// area's main city lies in. Without a comma all of it is the city.
fn city_and_state(location: &str) -> (Option<&str>, Option<&str>) {
    match location.rsplit_once(',') {
        Some((city, states)) => (Some(city.trim()), states.trim().split('-').next()),
        None => (Some(location), None),
    }
}

/// serde's words without its "at line 1": the file's line is named beside it.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{what} (column {})", error.column())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    #[serde(deserialize_with = "integer")]
    ts: i64,
    #[serde(borrow)]
    page: Cow<'a, str>,
    #[serde(deserialize_with = "integer")]
    session_id: i64,
    #[serde(borrow, default, deserialize_with = "user_id")]
    user_id: Cow<'a, str>,
    #[serde(default, deserialize_with = "optional_integer")]
    status: Option<i64>,
    #[serde(default, deserialize_with = "optional_integer")]
    item_in_session: Option<i64>,
    #[serde(default, deserialize_with = "optional_integer")]
    registration: Option<i64>,
    #[serde(default)]
    length: Option<f64>,
    #[serde(borrow, default)]
    artist: Option<Text<'a>>,
    #[serde(borrow, default)]
    song: Option<Text<'a>>,
    #[serde(borrow, default)]
    auth: Option<Text<'a>>,
    #[serde(borrow, default)]
    method: Option<Text<'a>>,
    #[serde(borrow, default)]
    level: Option<Text<'a>>,
    #[serde(borrow, default)]
    location: Option<Text<'a>>,
    #[serde(borrow, default)]
    user_agent: Option<Text<'a>>,
    #[serde(borrow, default)]
    first_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    last_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    gender: Option<Text<'a>>,
}

/// Text that is copied only where it carries escapes (an `Option<Cow>` would always be).
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A whole number, written `5` or `5.0`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a whole number")]
enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    fn whole<E: serde::de::Error>(self) -> Result<i64, E> {
        match self {
            Number::Integer(value) => Ok(value),
            // 2^53: above it a float no longer names one integer.
            Number::Float(value)
                if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 =>
            {
                Ok(value as i64)
            }
            Number::Float(value) => Err(E::custom(format!("{value} is not a whole number"))),
        }
    }
}

fn integer<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    Number::deserialize(from)?.whole()
}

fn optional_integer<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    Option::<Number>::deserialize(from)?
        .map(Number::whole)
        .transpose()
}

/// Eventsim writes user ids as text; some of its versions as numbers, or not at all.
fn user_id<'de, D: Deserializer<'de>>(from: D) -> Result<Cow<'de, str>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected userId as text or a whole number")]
    enum UserId {
        Text(String),
        Number(i64),
    }
    Ok(match Option::<UserId>::deserialize(from)? {
        Some(UserId::Text(text)) => Cow::Owned(text),
        Some(UserId::Number(number)) => Cow::Owned(number.to_string()),
        None => Cow::Borrowed(""),
    })
}

/// Where the request came from, and whose it is.
#[derive(Serialize, Clone, Copy)]
#[serde(rename_all = "camelCase")]
struct Person<'a> {
    city: Option<&'a str>,
    zip: Option<&'a str>,
    state: Option<&'a str>,
    user_agent: Option<&'a str>,
    lon: Option<f64>,
    lat: Option<f64>,
    user_id: &'a str,
    last_name: Option<&'a str>,
    first_name: Option<&'a str>,
    gender: Option<&'a str>,
    registration: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listen<'a> {
    artist: Option<&'a str>,
    song: Option<&'a str>,
    duration: Option<f64>,
    ts: i64,
    session_id: i64,
    auth: Option<&'a str>,
    level: Option<&'a str>,
    item_in_session: Option<i64>,
    #[serde(flatten)]
    person: &'a Person<'a>,
}

impl<'a> Listen<'a> {
    fn of(entry: &'a Entry<'a>, person: &'a Person<'a>) -> Listen<'a> {
        Listen {
            artist: entry.artist.as_deref(),
            song: entry.song.as_deref(),
            duration: entry.length,
            ts: entry.ts,
            session_id: entry.session_id,
            auth: entry.auth.as_deref(),
            level: entry.level.as_deref(),
            item_in_session: entry.item_in_session,
            person,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PageView<'a> {
    ts: i64,
    session_id: i64,
    page: &'a str,
    auth: Option<&'a str>,
    method: Option<&'a str>,
    status: Option<i64>,
    level: Option<&'a str>,
    item_in_session: Option<i64>,
    #[serde(flatten)]
    person: &'a Person<'a>,
    artist: Option<&'a str>,
    song: Option<&'a str>,
    duration: Option<f64>,
}

impl<'a> PageView<'a> {
    fn of(entry: &'a Entry<'a>, person: &'a Person<'a>) -> PageView<'a> {
        PageView {
            ts: entry.ts,
            session_id: entry.session_id,
            page: &entry.page,
            auth: entry.auth.as_deref(),
            method: entry.method.as_deref(),
            status: entry.status,
            level: entry.level.as_deref(),
            item_in_session: entry.item_in_session,
            person,
            artist: entry.artist.as_deref(),
            song: entry.song.as_deref(),
            duration: entry.length,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Auth<'a> {
    ts: i64,
    session_id: i64,
    level: Option<&'a str>,
    item_in_session: Option<i64>,
    #[serde(flatten)]
    person: &'a Person<'a>,
    success: bool,
}

impl<'a> Auth<'a> {
    fn of(entry: &'a Entry<'a>, person: &'a Person<'a>, success: bool) -> Auth<'a> {
        Auth {
            ts: entry.ts,
            session_id: entry.session_id,
            level: entry.level.as_deref(),
            item_in_session: entry.item_in_session,
            person,
            success,
        }
    }
}
