//! The table of what a process answers: each path, how it is called, and what that takes. A path that is not
//! in it is not there.

use http::Method;

use crate::{Access, Role};

/// One way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// How it is called. `GET` stands for `HEAD` too.
    pub method: Method,
    /// Its path; `{name}` is any one segment, `{*name}` all that follow, as in axum's routes.
    pub path: String,
    /// What it asks for.
    pub access: Access,
}

/// The table. Filled by those who own the routes, beside them.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    doors: Vec<Door>,
}

impl Doors {
    /// No way in at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method of a gRPC service, `/package.Service/Method`.
    #[must_use]
    pub fn rpc(self, path: &str, needs: Role) -> Self {
        self.route(Method::POST, path, Access::Needs(needs))
    }

    /// Adds an HTTP route.
    #[must_use]
    pub fn route(mut self, method: Method, path: &str, access: Access) -> Self {
        self.doors.push(Door {
            method,
            path: path.to_owned(),
            access,
        });
        self
    }

    /// Adds a route that is read.
    #[must_use]
    pub fn get(self, path: &str, access: Access) -> Self {
        self.route(Method::GET, path, access)
    }

    /// Adds a route that changes something.
    #[must_use]
    pub fn post(self, path: &str, needs: Role) -> Self {
        self.route(Method::POST, path, Access::Needs(needs))
    }

    /// Adds a route that removes something.
    #[must_use]
    pub fn delete(self, path: &str, needs: Role) -> Self {
        self.route(Method::DELETE, path, Access::Needs(needs))
    }

    /// Adds all of another table.
    #[must_use]
    pub fn and(mut self, other: Doors) -> Self {
        self.doors.extend(other.doors);
        self
    }

    /// All of them.
    pub fn all(&self) -> &[Door] {
        &self.doors
    }

    /// What a call takes; `None`: there is no such door. Where several match, the strictest rules.
    pub fn access(&self, method: &Method, path: &str) -> Option<Access> {
        let method = match *method {
            Method::HEAD => &Method::GET,
            _ => method,
        };
        let matching = |door: &&Door| door.method == *method && matches(&door.path, path);
        let exact = self
            .doors
            .iter()
            .find(|door| door.method == *method && door.path == path);
        let found = exact.or_else(|| {
            self.doors
                .iter()
                .filter(matching)
                .max_by_key(|door| strictness(door.access))
        });
        found.map(|door| door.access)
    }
}

fn strictness(access: Access) -> u8 {
    match access {
        Access::Public => 0,
        Access::Needs(Role::Read) => 1,
        Access::Needs(Role::Submit) => 2,
        Access::Needs(Role::Admin) => 3,
        Access::Needs(Role::Worker) => 4,
        Access::Needs(Role::Master) => 5,
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        if wanted.starts_with("{*") {
            return segments.next().is_some_and(|rest| !rest.is_empty());
        }
        let is_any = wanted.starts_with('{') && wanted.ends_with('}');
        match segments.next() {
            Some(segment) if is_any && !segment.is_empty() => {}
            Some(segment) if segment == wanted => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors() -> Doors {
        Doors::new()
            .get("/", Access::Public)
            .get("/assets/{*path}", Access::Public)
            .get("/api/v1/jobs", Access::Needs(Role::Read))
            .get("/api/v1/jobs/{id}", Access::Needs(Role::Read))
            .get("/api/v1/jobs/secrets", Access::Needs(Role::Admin))
            .delete("/api/v1/jobs/{id}", Role::Submit)
            .rpc("/p.Service/Method", Role::Admin)
    }

    fn access(method: Method, path: &str) -> Option<Access> {
        doors().access(&method, path)
    }

    #[test]
    fn what_is_listed_is_found() {
        assert_eq!(access(Method::GET, "/"), Some(Access::Public));
        assert_eq!(access(Method::HEAD, "/"), Some(Access::Public));
        assert_eq!(access(Method::GET, "/assets/a/b.js"), Some(Access::Public));
        assert_eq!(
            access(Method::GET, "/api/v1/jobs/7"),
            Some(Access::Needs(Role::Read))
        );
        assert_eq!(
            access(Method::DELETE, "/api/v1/jobs/7"),
            Some(Access::Needs(Role::Submit))
        );
        assert_eq!(
            access(Method::POST, "/p.Service/Method"),
            Some(Access::Needs(Role::Admin))
        );
    }

    #[test]
    fn an_exact_path_wins_over_a_pattern() {
        assert_eq!(
            access(Method::GET, "/api/v1/jobs/secrets"),
            Some(Access::Needs(Role::Admin))
        );
    }

    #[test]
    fn what_is_not_listed_is_not_there() {
        for path in [
            "",
            "//",
            "/assets",
            "/assets/",
            "/api/v1/jobs/",
            "/api/v1/jobs//",
            "/api/v1/jobs/7/",
            "/api/v1/jobs/7/x",
            "/API/v1/jobs",
            "/api/v1//jobs",
            "/p.Service/Other",
        ] {
            assert_eq!(access(Method::GET, path), None, "{path}");
        }
        assert_eq!(access(Method::PUT, "/"), None);
        assert_eq!(access(Method::OPTIONS, "/api/v1/jobs"), None);
        assert_eq!(access(Method::GET, "/p.Service/Method"), None);
    }
}
