//! One page's record as JSON, put together from pieces in the topics' field order.

use super::people::Cast;
use super::songs::Songs;
use super::visit::{Page, Step, User};
use crate::Topic;

pub(super) fn write(
    step: &Step,
    topic: Topic,
    user: &User,
    cast: &Cast,
    songs: &Songs,
    json: &mut Vec<u8>,
) {
    let mut record = Record {
        json,
        numbers: itoa::Buffer::new(),
    };
    match topic {
        Topic::ListenEvents => {
            record.put(b"{");
            record.put(songs.get(step.song).map_or(b"", |song| &song.json));
            record.put(b",\"ts\":");
            record.integer(step.ts_millis);
            record.session(step);
            record.put(if step.known {
                b",\"auth\":\"Logged In\""
            } else {
                b",\"auth\":\"Logged Out\""
            });
            record.level(step);
            record.person(step, user, cast);
        }
        Topic::PageViewEvents => {
            record.put(b"{\"ts\":");
            record.integer(step.ts_millis);
            record.session(step);
            record.put(b",\"page\":\"");
            record.put(step.page.name().as_bytes());
            record.put(if step.known {
                b"\",\"auth\":\"Logged In\""
            } else {
                b"\",\"auth\":\"Logged Out\""
            });
            record.put(b",\"method\":\"");
            record.put(step.page.method().as_bytes());
            record.put(b"\",\"status\":");
            record.integer(step.status.into());
            record.level(step);
            record.person(step, user, cast);
            record.put(b",");
            match songs.get(step.song) {
                Some(song) if step.page == Page::NextSong => record.put(&song.json),
                _ => record.put(b"\"artist\":null,\"song\":null,\"duration\":null"),
            }
        }
        Topic::AuthEvents => {
            record.put(b"{\"ts\":");
            record.integer(step.ts_millis);
            record.session(step);
            record.level(step);
            record.person(step, user, cast);
            record.put(if step.status < 400 {
                b",\"success\":true"
            } else {
                b",\"success\":false"
            });
        }
    }
    record.put(b"}");
}

struct Record<'a> {
    json: &'a mut Vec<u8>,
    numbers: itoa::Buffer,
}

impl Record<'_> {
    fn put(&mut self, piece: &[u8]) {
        self.json.extend_from_slice(piece);
    }

    fn integer(&mut self, value: i64) {
        self.json
            .extend_from_slice(self.numbers.format(value).as_bytes());
    }

    fn session(&mut self, step: &Step) {
        self.put(b",\"sessionId\":");
        self.integer(step.session as i64);
    }

    fn level(&mut self, step: &Step) {
        self.put(if step.paid {
            b",\"level\":\"paid\""
        } else {
            b",\"level\":\"free\""
        });
        self.put(b",\"itemInSession\":");
        self.integer(step.item.into());
        self.put(b",");
    }

    /// From city to registration. The service knows nothing of who is not logged in.
    fn person(&mut self, step: &Step, user: &User, cast: &Cast) {
        if !step.known {
            self.put(
                b"\"city\":null,\"zip\":null,\"state\":null,\"userAgent\":null,\"lon\":null,\"lat\":null,\
                  \"userId\":\"\",\"lastName\":null,\"firstName\":null,\"gender\":null,\"registration\":null",
            );
            return;
        }
        self.put(cast.place(user.person));
        self.put(b",\"userAgent\":");
        self.put(cast.agent(user.person));
        self.put(b",");
        self.put(cast.position(user.person));
        self.put(b",\"userId\":\"");
        self.integer(i64::from(step.user) + 1);
        self.put(b"\",\"lastName\":");
        self.put(cast.last_name(user.person));
        self.put(b",\"firstName\":");
        self.put(cast.first_name(user.person));
        self.put(if user.person.woman {
            b",\"gender\":\"F\",\"registration\":"
        } else {
            b",\"gender\":\"M\",\"registration\":"
        });
        self.integer(user.registration);
    }
}
