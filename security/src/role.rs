//! What a caller may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A caller's role: each token and each certificate has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything that people do: administration, and what [`Role::Submit`] may.
    Admin,
    /// Submits and cancels applications, applies and pauses streams, and looks.
    Submit,
    /// Looks, and changes nothing.
    Read,
    /// Joins a cluster, and fetches rows from other workers. No more.
    Worker,
    /// Runs tasks on workers, and fetches their rows. Never given to a token.
    Master,
}

impl Role {
    /// Roles that a token can have.
    pub const OF_TOKENS: [Role; 4] = [Role::Admin, Role::Submit, Role::Read, Role::Worker];

    /// Whether a caller of this role may do what needs the other.
    pub fn may(self, needed: Role) -> bool {
        match self {
            Self::Admin => matches!(needed, Self::Admin | Self::Submit | Self::Read),
            Self::Submit => matches!(needed, Self::Submit | Self::Read),
            Self::Read => needed == Self::Read,
            Self::Worker => needed == Self::Worker,
            // Rows are for master and workers.
            Self::Master => matches!(needed, Self::Master | Self::Worker),
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Worker => "worker",
            Self::Master => "master",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "admin" => Ok(Self::Admin),
            "submit" => Ok(Self::Submit),
            "read" => Ok(Self::Read),
            "worker" => Ok(Self::Worker),
            "master" => Ok(Self::Master),
            other => Err(format!(
                "`{}` is no role: admin, submit, read or worker",
                other.escape_default()
            )),
        }
    }
}

/// What a door asks of who comes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: it holds no data.
    Public,
    /// A role that may do what this one may.
    Needs(Role),
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Needs(role) => role.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_it_should_and_no_more() {
        use Role::{Admin, Master, Read, Submit, Worker};
        let all = [Admin, Submit, Read, Worker, Master];
        let may = |role: Role| -> Vec<Role> {
            let needed = all.into_iter();
            needed.filter(|needed| role.may(*needed)).collect()
        };
        assert_eq!(may(Admin), [Admin, Submit, Read]);
        assert_eq!(may(Submit), [Submit, Read]);
        assert_eq!(may(Read), [Read]);
        assert_eq!(may(Worker), [Worker]);
        assert_eq!(may(Master), [Worker, Master]);
    }

    #[test]
    fn roles_are_read_as_they_are_written() {
        for role in Role::OF_TOKENS {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }
}
