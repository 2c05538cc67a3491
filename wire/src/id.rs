//! Who speaks, and in which stream.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Takes 16 bytes (from a random source, or as stored) as they are.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }
    };
}

uuid_newtype! {
    /// One agent's identity, for as long as its data directory lives.
    AgentId
}

uuid_newtype! {
    /// One unbroken sequence of records of an agent. A new one begins when the log had to be begun
    /// anew; `(agent_id, stream_id, seq)` names a record for ever.
    StreamId
}

uuid_newtype! {
    /// One process of an agent, drawn at random when it starts: tells a restart from a second host that
    /// runs with a copied identity.
    InstanceId
}

#[cfg(test)]
mod tests {
    use super::AgentId;

    #[test]
    fn displays_and_parses_as_uuid() {
        let id = AgentId::from_bytes([7; 16]);
        assert_eq!(id.to_string(), "07070707-0707-0707-0707-070707070707");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("not an id".parse::<AgentId>().is_err());
    }
}
