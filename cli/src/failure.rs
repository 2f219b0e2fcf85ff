//! How a command ends when it does not end well: an exit code, one clear line, and the next step.
//!
//! Every error that reaches a user passes through [`Failure`]; nothing else writes `error:` lines.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

/// What an exit code says to a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The job failed, or the process could not do its work.
    Failed = 1,
    /// The request is wrong: the same again fails again.
    Usage = 2,
    /// The cluster, or something it needs, does not answer.
    Unreachable = 3,
    /// Stopped by the user.
    Cancelled = 130,
}

/// A command's bad end.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// One line: the object and the reason.
    pub(crate) message: String,
    /// Lines shown between the message and the hint, such as SQL text with a caret, or a log's tail.
    pub(crate) detail: Option<String>,
    /// The next step.
    pub(crate) hint: Option<String>,
}

pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Code::Unreachable, message)
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(Code::Cancelled, "cancelled")
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into()).filter(|hint: &String| !hint.is_empty());
        self
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into()).filter(|detail: &String| !detail.is_empty());
        self
    }

    /// What goes to stderr.
    pub(crate) fn render(&self) -> String {
        if self.code == Code::Cancelled {
            return format!("{}\n", self.message);
        }
        let mut text = format!("error: {}\n", self.message.trim_end());
        if let Some(detail) = &self.detail {
            text.push_str(detail.trim_end_matches('\n'));
            text.push('\n');
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        text
    }

    /// Says it on stderr.
    pub(crate) fn report(&self) {
        // A closed stderr leaves the exit code as the only thing to say.
        let _ = std::io::stderr().write_all(self.render().as_bytes());
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code as u8)
    }
}

/// Turns a foreign error into a [`Failure`] that names what was being done.
pub(crate) trait OrFail<T> {
    /// Exit 1: `what` names the object, the error is the reason.
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T>;
    /// Exit 2: the user asked for something that cannot be.
    fn or_usage(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Display> OrFail<T> for std::result::Result<T, E> {
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|reason| Failure::failed(format!("{}: {reason}", what())))
    }

    fn or_usage(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|reason| Failure::usage(format!("{}: {reason}", what())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_detail_and_hint_come_in_that_order() {
        let failure = Failure::usage("no such table `listens`")
            .detail("1 | SELECT\n  | ^")
            .hint("did you mean `listen_events`?");
        assert_eq!(
            failure.render(),
            "error: no such table `listens`\n1 | SELECT\n  | ^\nhint: did you mean `listen_events`?\n"
        );
    }

    #[test]
    fn an_empty_hint_is_no_hint() {
        assert_eq!(
            Failure::failed("x").hint("").detail("").render(),
            "error: x\n"
        );
    }

    #[test]
    fn being_cancelled_is_not_called_an_error() {
        assert_eq!(Failure::cancelled().render(), "cancelled\n");
    }
}
