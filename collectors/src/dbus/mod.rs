//! Asks services of this host over D-Bus: a client for reading, and no more than that.
//!
//! It makes calls and reads simple values; it takes no signals, exports nothing, passes no files, and starts
//! no service that isn't there. The connection stays open between ticks and is made anew when it broke. What
//! comes from the bus is bounded in size and time and is checked before it is believed.
//!
//! Written from the D-Bus specification, protocol version 1. Why not a library: docs/decisions/0013.

mod address;
mod body;
mod connection;
mod message;

use std::{cell::Cell, env};

use agent_core::{
    CollectError,
    collector::{BuildError, Context, OptionSpec},
};

use self::{address::Address, connection::Connection};
pub(crate) use self::{
    body::{Body, Malformed, Value},
    message::{Answer, Call},
};

/// Where everything else looks for the address of the system bus.
const VARIABLE: &str = "DBUS_SYSTEM_BUS_ADDRESS";
const SOCKET: &str = "/run/dbus/system_bus_socket";

/// The option of [`Bus::from_options`].
pub(crate) const BUS_ADDRESS: OptionSpec = OptionSpec {
    key: "bus_address",
    default: "",
    doc: "Address of the D-Bus system bus, such as unix:path=/run/dbus/system_bus_socket. If it is empty: what \
          the environment variable DBUS_SYSTEM_BUS_ADDRESS says, else that socket below rootfs.",
};

/// The system bus.
#[derive(Debug)]
pub(crate) struct Bus {
    addresses: Vec<Address>,
    connection: Option<Connection>,
}

impl Bus {
    /// At the configured address, or the usual one. It is connected when it is first asked.
    pub(crate) fn from_options(context: &Context<'_>) -> Result<Self, BuildError> {
        let wrong = |reason: String| BuildError {
            collector: context.registration.name,
            key: BUS_ADDRESS.key,
            reason,
        };
        let configured = context.option(BUS_ADDRESS.key);
        let variable = || env::var(VARIABLE).ok().filter(|address| !address.is_empty());
        let addresses = match (configured, variable()) {
            ("", None) => vec![Address::Path(context.roots.root(SOCKET))],
            ("", Some(variable)) => address::parse(&variable)
                .map_err(|reason| wrong(format!("{VARIABLE}: {reason}")))?,
            (configured, _) => address::parse(configured).map_err(wrong)?,
        };
        Ok(Self { addresses, connection: None })
    }

    /// Makes these calls, and gives each answer, with the place of its call, to `each`.
    ///
    /// # Errors
    /// [`CollectError::Unavailable`] without a bus, [`CollectError::Denied`] when it doesn't take this user;
    /// otherwise what failed. The connection is closed then.
    pub(crate) fn ask(
        &mut self,
        calls: &[Call<'_>],
        mut each: impl FnMut(usize, Answer<'_>) -> Result<(), Unusable>,
    ) -> Result<(), CollectError> {
        let is_answered = Cell::new(false);
        let mut each = |index: usize, answer: Answer<'_>| {
            is_answered.set(true);
            each(index, answer)
        };
        if let Some(mut connection) = self.connection.take() {
            let asked = connection.ask(calls, &mut each);
            let is_closed = connection.is_closed;
            match asked {
                Ok(()) => {
                    self.connection = Some(connection);
                    return Ok(());
                }
                // the bus was started anew since the last tick
                Err(_) if is_closed && !is_answered.get() => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.open()?;
        connection.ask(calls, &mut each)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// At the first address that answers; if none does, the first one is the one that is missing.
    fn open(&self) -> Result<Connection, CollectError> {
        let mut first = None;
        for address in &self.addresses {
            match Connection::open(address) {
                Ok(connection) => return Ok(connection),
                Err(error) => _ = first.get_or_insert(error),
            }
        }
        Err(first.unwrap_or_else(|| CollectError::unavailable("no address of a bus")))
    }
}

/// An answer that isn't what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// Its bytes can't be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It holds something else.
    #[error("{found} where {expected} was expected")]
    Unexpected {
        /// What it holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// It is an error that the other side told.
    #[error("{name}: {text}")]
    Refused {
        /// As `org.freedesktop.DBus.Error.AccessDenied`.
        name: String,
        /// For people.
        text: String,
    },
}

/// What is long is cut: it comes from outside and goes into the log.
const SHOWN_CHARS_MAX: usize = 200;

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

impl Unusable {
    /// What it means for who made that call.
    fn into_error(self, bus: &str, call: &Call<'_>) -> CollectError {
        let asked = format!("{bus}: {}.{} of {}", call.interface, call.member, call.destination);
        let Self::Refused { name, .. } = &self else { return CollectError::failed(asked, self) };
        let what = format!("{asked}: {self}");
        match name.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or_default() {
            "ServiceUnknown" | "NameHasNoOwner" => CollectError::Unavailable { what },
            "AccessDenied" | "AuthFailed" | "InteractiveAuthorizationRequired" => {
                CollectError::Denied { what }
            }
            _ => CollectError::failed(asked, self),
        }
    }
}

impl<'a> Answer<'a> {
    /// The values that the method returned, which have to be of these types.
    pub(crate) fn body(self, expected: &'static str) -> Result<Body<'a>, Unusable> {
        match self {
            Self::Returned { signature, body } if signature == expected => Ok(body),
            Self::Returned { signature, .. } => {
                let found = format!("a value of type '{}'", shown(signature));
                Err(Unusable::Unexpected { found, expected })
            }
            Self::Refused { name, text } => {
                Err(Unusable::Refused { name: shown(name), text: shown(text) })
            }
        }
    }

    /// The property that `Get` returned; `None` if it was refused, as it is to who asks for one that this
    /// version of the service doesn't have, or of an object that is gone.
    pub(crate) fn property(self) -> Result<Option<Value<'a>>, Unusable> {
        match self {
            Self::Refused { .. } => Ok(None),
            returned => Ok(Some(returned.body("v")?.variant()?)),
        }
    }

    /// The same of a property that is a text.
    pub(crate) fn text_property(self) -> Result<Option<&'a str>, Unusable> {
        match self.property()? {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => {
                Err(Unusable::Unexpected { found: format!("{other:?}"), expected: "a text" })
            }
        }
    }

    /// The same of one that is a number, as `u` or `t`.
    pub(crate) fn number_property(self) -> Result<Option<f64>, Unusable> {
        match self.property()? {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number)),
            Some(other) => {
                let found = shown(&format!("{other:?}"));
                Err(Unusable::Unexpected { found, expected: "a number" })
            }
        }
    }
}

/// The call for a property of an object: `[interface, name]`.
pub(crate) const fn get<'a>(
    destination: &'a str,
    path: &'a str,
    property: &'a [&'a str; 2],
) -> Call<'a> {
    Call {
        destination,
        path,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        arguments: property,
    }
}
