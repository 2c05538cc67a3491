//! Sessions of users, as systemd-logind has them: `org.freedesktop.login1` over D-Bus.
//!
//! A series for each combination of seat, type, class and whether the user sits elsewhere, most of which are
//! 0: that's node_exporter's way. What a session is, is asked when it is new and of a few others in each
//! tick: see [`Rotation`](crate::rotation::Rotation).

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    dbus::{BUS_ADDRESS, Body, Bus, Call, Malformed, Unusable, Value, get},
    rotation::Rotation,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "logind",
    summary: "Sessions of users by seat, type and class.",
    reads: &["org.freedesktop.login1 on the D-Bus system bus"],
    default_enabled: false,
    options: &[BUS_ADDRESS],
    build,
};

const SESSIONS: Metric<'_> =
    Metric::gauge("node_logind_sessions", "Number of sessions registered in logind.");

const LOGIND: &str = "org.freedesktop.login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/login1";
const SESSION: &str = "org.freedesktop.login1.Session";
const PROPERTIES: [[&str; 2]; 3] = [[SESSION, "Remote"], [SESSION, "Type"], [SESSION, "Class"]];

const REMOTE: [&str; 2] = ["true", "false"];
/// The first one stands for those that aren't here.
const TYPES: [&str; 7] = ["other", "unspecified", "tty", "x11", "wayland", "mir", "web"];
/// The first one stands for those that aren't here.
const CLASSES: [&str; 5] = ["other", "user", "greeter", "lock-screen", "background"];

/// Seats beyond this are not taken: each has 70 series.
const SEATS_MAX: usize = 64;
/// Sessions beyond this are not asked what they are, and not counted.
const SESSIONS_MAX: usize = 2_000;
/// Sessions that are asked again in a tick.
const SESSIONS_AGAIN: usize = 8;

struct Logind {
    bus: Bus,
    /// In the order of their names; the last one is that of sessions without a seat.
    seats: Vec<String>,
    /// In the order of their paths.
    sessions: Vec<Session>,
    rotation: Rotation,
}

#[derive(Debug)]
struct Session {
    path: String,
    seat: String,
    /// Absent until it is known.
    what: Option<What>,
}

/// Places in the lists above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct What {
    remote: usize,
    kind: usize,
    class: usize,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Logind {
        bus: Bus::from_options(context)?,
        seats: Vec::new(),
        sessions: Vec::new(),
        rotation: Rotation::new(SESSIONS_AGAIN),
    }))
}

impl Collector for Logind {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let left_out = self.list()?;
        self.ask_sessions()?;
        for (remote, shown) in REMOTE.iter().enumerate() {
            for (kind, kind_shown) in TYPES.iter().enumerate() {
                for (class, class_shown) in CLASSES.iter().enumerate() {
                    for seat in &self.seats {
                        let what = What { remote, kind, class };
                        let labels = [
                            ("class", *class_shown),
                            ("remote", shown),
                            ("seat", seat),
                            ("type", kind_shown),
                        ];
                        out.push(&SESSIONS, &labels, self.count(seat, what));
                    }
                }
            }
        }
        if left_out > 0 {
            out.remark(&format!("{left_out} sessions beyond {SESSIONS_MAX} are not counted"));
        }
        Ok(())
    }
}

impl Logind {
    /// Asks for seats and sessions; how many sessions there are beyond those that are taken.
    fn list(&mut self) -> Result<usize, CollectError> {
        let Self { bus, seats, sessions, .. } = self;
        let manager = |member| Call {
            destination: LOGIND,
            path: MANAGER_PATH,
            interface: MANAGER,
            member,
            arguments: &[],
        };
        let mut left_out = 0;
        bus.ask(&[manager("ListSeats"), manager("ListSessions")], |index, answer| {
            match index {
                0 => *seats = parse_seats(answer.body("a(so)")?)?,
                _ => {
                    let listed = parse_sessions(answer.body("a(susso)")?)?;
                    left_out = listed.len().saturating_sub(SESSIONS_MAX);
                    renew(sessions, listed);
                }
            }
            Ok(())
        })?;
        Ok(left_out)
    }

    /// Asks those sessions that are new, and a few of the others, what they are.
    fn ask_sessions(&mut self) -> Result<(), CollectError> {
        let again = self.rotation.next(self.sessions.len());
        let asked = self
            .sessions
            .iter_mut()
            .enumerate()
            .filter(|(place, session)| session.what.is_none() || again.contains(place));
        let asked: Vec<_> = asked.map(|(_, session)| session).collect();
        let mut answers = vec![[None; PROPERTIES.len()]; asked.len()];
        let calls: Vec<_> = asked
            .iter()
            .flat_map(|session| {
                PROPERTIES.iter().map(|property| get(LOGIND, &session.path, property))
            })
            .collect();
        self.bus.ask(&calls, |index, answer| {
            let (session, property) = (index / PROPERTIES.len(), index % PROPERTIES.len());
            answers[session][property] = place(property, answer.property()?)?;
            Ok(())
        })?;
        drop(calls);
        for (session, answer) in asked.into_iter().zip(answers) {
            // one that is refused has ended
            session.what = match answer {
                [Some(remote), Some(kind), Some(class)] => Some(What { remote, kind, class }),
                _ => None,
            };
        }
        Ok(())
    }

    fn count(&self, seat: &str, what: What) -> f64 {
        let such = |session: &&Session| session.what == Some(what) && session.seat == seat;
        self.sessions.iter().filter(such).count() as f64
    }
}

/// The place of a property's value in its list; `None` if it was refused.
fn place(property: usize, value: Option<Value<'_>>) -> Result<Option<usize>, Unusable> {
    let known = |list: &[&str], value: &str| list.iter().position(|one| *one == value);
    match (property, value) {
        (_, None) => Ok(None),
        (0, Some(Value::Bool(remote))) => Ok(Some(usize::from(!remote))),
        (1, Some(Value::Text(kind))) => Ok(Some(known(&TYPES, kind).unwrap_or_default())),
        (2, Some(Value::Text(class))) => Ok(Some(known(&CLASSES, class).unwrap_or_default())),
        (property, Some(found)) => Err(Unusable::Unexpected {
            found: format!("{found:?}"),
            expected: if property == 0 { "true or false" } else { "a text" },
        }),
    }
}

/// Names of the seats, and the empty one.
fn parse_seats(mut list: Body<'_>) -> Result<Vec<String>, Malformed> {
    let mut seats = Vec::new();
    list.structs(|seat| {
        seats.push(seat.text()?.to_owned());
        seat.text()?;
        Ok(())
    })?;
    seats.retain(|seat| !seat.is_empty());
    seats.sort_unstable();
    seats.dedup();
    seats.truncate(SEATS_MAX);
    seats.push(String::new());
    Ok(seats)
}

/// Path and seat of each session.
fn parse_sessions(mut list: Body<'_>) -> Result<Vec<(&str, &str)>, Malformed> {
    let mut sessions = Vec::new();
    list.structs(|session| {
        session.text()?;
        session.number()?;
        session.text()?;
        let seat = session.text()?;
        sessions.push((session.object_path()?, seat));
        Ok(())
    })?;
    sessions.sort_unstable();
    sessions.dedup_by_key(|(path, _)| *path);
    Ok(sessions)
}

/// Takes the sessions of this tick; those that were there before stay what they are.
fn renew(sessions: &mut Vec<Session>, listed: Vec<(&str, &str)>) {
    let before = std::mem::take(sessions);
    let listed = listed.into_iter().take(SESSIONS_MAX);
    sessions.extend(listed.map(|(path, seat)| {
        let known = before.binary_search_by(|known| known.path.as_str().cmp(path)).ok();
        let what = known.and_then(|place| before[place].what);
        Session { path: path.to_owned(), seat: seat.to_owned(), what }
    }));
}
