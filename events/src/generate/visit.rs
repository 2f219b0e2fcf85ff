//! A listener and the pages of a visit.

use super::people::{Cast, Person};
use super::random::Random;
use super::songs::Songs;

/// Seconds of event time between two records of one user, visits and nights together; measured
/// over ten million records.
pub(super) const SECONDS_PER_RECORD_OF_A_USER: f64 = 2_500.0;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Home,
    Login,
    NextSong,
    Logout,
    Help,
    About,
    Settings,
    SaveSettings,
    Upgrade,
    SubmitUpgrade,
    Downgrade,
    SubmitDowngrade,
    Error,
}

impl Page {
    pub(super) fn name(self) -> &'static str {
        match self {
            Page::Home => "Home",
            Page::Login => "Login",
            Page::NextSong => "NextSong",
            Page::Logout => "Logout",
            Page::Help => "Help",
            Page::About => "About",
            Page::Settings => "Settings",
            Page::SaveSettings => "Save Settings",
            Page::Upgrade => "Upgrade",
            Page::SubmitUpgrade => "Submit Upgrade",
            Page::Downgrade => "Downgrade",
            Page::SubmitDowngrade => "Submit Downgrade",
            Page::Error => "Error",
        }
    }

    pub(super) fn method(self) -> &'static str {
        match self {
            Page::Home
            | Page::Help
            | Page::About
            | Page::Settings
            | Page::Upgrade
            | Page::Downgrade
            | Page::Error => "GET",
            Page::Login
            | Page::NextSong
            | Page::Logout
            | Page::SaveSettings
            | Page::SubmitUpgrade
            | Page::SubmitDowngrade => "PUT",
        }
    }
}

/// One page of one visit, with all that its records say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) user: u32,
    pub(super) ts_millis: i64,
    pub(super) session: u64,
    pub(super) item: u32,
    pub(super) page: Page,
    pub(super) paid: bool,
    /// Whether the service knows who asks; a page before the login does not.
    pub(super) known: bool,
    pub(super) status: u16,
    pub(super) song: u32,
}

impl Step {
    /// The user's id, from 1, or the session's where nobody is logged in.
    pub(super) fn key(&self) -> u64 {
        if self.known {
            u64::from(self.user) + 1
        } else {
            self.session
        }
    }
}

/// A listener between two steps.
pub(super) struct User {
    pub(super) person: Person,
    pub(super) registration: i64,
    session: u64,
    item: u32,
    /// Steps until the visit ends; 0: away.
    left: u32,
    paid: bool,
    logged_in: bool,
    /// What the last page leads to.
    then: Option<Page>,
}

impl User {
    pub(super) fn new(random: &mut Random, cast: &Cast, start_millis: i64) -> User {
        let ago = (HOUR + random.below(90 * 24 * HOUR)) as i64;
        User {
            person: cast.person(random),
            registration: start_millis - ago,
            session: 0,
            item: 0,
            left: 0,
            paid: random.per_mille(300),
            logged_in: random.per_mille(700),
            then: None,
        }
    }

    /// Milliseconds until the first visit: spread, so that the service is as busy at the beginning
    /// as later.
    pub(super) fn first_visit_after(&self, random: &mut Random) -> i64 {
        random.below(40 * HOUR) as i64
    }

    /// What the user does at `now`, and how long, in milliseconds, until the next.
    pub(super) fn step(
        &mut self,
        now: i64,
        id: u32,
        random: &mut Random,
        songs: &Songs,
        sessions: &mut u64,
    ) -> (Step, i64) {
        if self.left == 0 {
            *sessions += 1;
            self.session = *sessions;
            self.item = 0;
            self.left = 1 + random.around(if self.paid { 20 } else { 8 }) as u32;
            self.then = Some(Page::Home);
        }
        let known = self.logged_in;
        let page = self.page(random);
        let failed = page == Page::Login && random.per_mille(30);
        let status = match page {
            Page::Login if failed => 401,
            Page::Error => 404,
            Page::Login
            | Page::Logout
            | Page::SaveSettings
            | Page::SubmitUpgrade
            | Page::SubmitDowngrade => 307,
            _ => 200,
        };
        let song = if page == Page::NextSong {
            songs.pick(random)
        } else {
            0
        };
        let paid = self.paid;
        let step = Step {
            user: id,
            ts_millis: now,
            session: self.session,
            item: self.item,
            page,
            paid,
            known,
            status,
            song,
        };
        self.item += 1;
        self.left -= 1;
        self.follow(page, failed);
        let wait = match songs.get(song) {
            _ if self.left == 0 => random.around(16 * HOUR),
            Some(song) if page == Page::NextSong => u64::from(song.millis),
            _ => SECOND + random.below(40 * SECOND),
        };
        (step, wait as i64)
    }

    fn page(&mut self, random: &mut Random) -> Page {
        if let Some(page) = self.then.take() {
            return page;
        }
        if !self.logged_in {
            return match random.below(10) {
                0 => Page::Help,
                1 => Page::About,
                _ => Page::Login,
            };
        }
        if self.left == 1 && random.per_mille(350) {
            return Page::Logout;
        }
        match random.below(1000) {
            0..=899 => Page::NextSong,
            900..=939 => Page::Home,
            940..=955 => Page::Settings,
            956..=967 => Page::Help,
            968..=976 => Page::About,
            977..=996 => {
                if self.paid {
                    Page::Downgrade
                } else {
                    Page::Upgrade
                }
            }
            _ => Page::Error,
        }
    }

    /// What a page changes, and where it leads. Whoever means to upgrade does so one time in four.
    fn follow(&mut self, page: Page, failed: bool) {
        match page {
            Page::Login if failed => self.then = Some(Page::Login),
            Page::Login => {
                self.logged_in = true;
                self.then = Some(Page::Home);
            }
            Page::Logout => {
                self.logged_in = false;
                self.left = 0;
            }
            Page::Settings if self.item.is_multiple_of(5) => self.then = Some(Page::SaveSettings),
            Page::Upgrade if self.item.is_multiple_of(4) => self.then = Some(Page::SubmitUpgrade),
            Page::Downgrade if self.item.is_multiple_of(10) => {
                self.then = Some(Page::SubmitDowngrade)
            }
            Page::SubmitUpgrade => self.paid = true,
            Page::SubmitDowngrade => self.paid = false,
            _ => {}
        }
    }
}
