//! The thread that watches one guest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use livecore_livedump::qmp::{Cause, Client, Guest, QmpError};
use livecore_livedump::take::TakeError;

use crate::failure::Failure;
use crate::interrupt::Interrupt;

use super::choices::ThenArg;
use super::outcome::Dump;
use super::work::Work;

/// The interval of attempts to connect to a guest.
const RETRY: Duration = Duration::from_secs(5);
/// The interval for checking that QEMU answers, and for the state of the guest.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The interval for checking whether to stop.
const POLL: Duration = Duration::from_millis(100);

/// What all threads share.
pub(super) struct Watch {
    pub(super) work: Work,
    pub(super) causes: Vec<Cause>,
    pub(super) then: ThenArg,
    pub(super) timeout: Duration,
    pub(super) once: bool,
    pub(super) interrupt: Interrupt,
}

/// What a thread reports.
pub(super) enum Event {
    /// The guest's QEMU will report crashes.
    Watching(PathBuf),
    /// The connection failed.
    Lost(PathBuf, Box<Failure>),
    /// The guest crashed and was dumped, or could not be.
    Dumped(Box<Dump>),
    /// The command of `--hook` failed.
    HookFailed(PathBuf, String),
}

/// What is known of a guest between two connections.
#[derive(Default)]
struct State {
    /// Whether the last attempt to connect failed; it is reported once.
    is_lost: bool,
    /// Whether the crash that the guest's state shows was dumped.
    is_dumped: bool,
    /// Whether the next connection must act on the guest first.
    acts: bool,
}

impl Watch {
    /// Watches the guest until the run ends; with `once` until its first dump or until its connection fails.
    pub(super) fn guest(&self, address: &Path, events: &Sender<Event>) {
        let mut state = State::default();
        while self.interrupt.raised().is_none() {
            match self.connected(address, &mut state, events) {
                Ok(Some(cause)) => {
                    self.crash(address, cause, events);
                    state.is_dumped = true;
                    state.acts = self.then != ThenArg::Pause;
                    if self.once && !state.acts {
                        return;
                    }
                }
                // The guest was dumped, and the action is done.
                Ok(None) => return,
                Err(QmpError::Cancelled) => return,
                Err(error) => {
                    let failure = Failure::from(TakeError::from(error)).about(address);
                    if !state.is_lost {
                        let _ = events.send(Event::Lost(address.into(), Box::new(failure)));
                    }
                    state.is_lost = true;
                    if self.once {
                        return;
                    }
                    self.sleep(RETRY);
                }
            }
        }
    }

    /// Connects, and waits for a crash. Closes the connection, because QEMU serves one client at a time.
    /// Returns `None` if nothing more is to be done with the guest.
    fn connected(
        &self,
        address: &Path,
        state: &mut State,
        events: &Sender<Event>,
    ) -> Result<Option<Cause>, QmpError> {
        let interrupt = self.interrupt.clone();
        let stop = Arc::new(move || interrupt.raised().is_some());
        let mut guest = Guest::new(Client::connect_until(address, self.timeout, stop)?);
        if std::mem::take(&mut state.acts) {
            match self.then {
                ThenArg::Pause => {}
                ThenArg::Reset => guest.reset(&self.causes)?,
                ThenArg::Shutdown => guest.exit_qemu()?,
            }
            if self.once {
                return Ok(None);
            }
        }
        guest.pause_on(&self.causes)?;
        if std::mem::take(&mut state.is_lost) || !state.is_dumped {
            let _ = events.send(Event::Watching(address.into()));
        }
        loop {
            match guest.crashed(&self.causes)? {
                Some(cause) if !state.is_dumped => return Ok(Some(cause)),
                Some(_) => {}
                None => state.is_dumped &= !guest.status()?.running,
            }
            if let Some(cause) = guest.next_crash(&self.causes, HEARTBEAT)? {
                guest.settle()?;
                return Ok(Some(cause));
            }
        }
    }

    fn crash(&self, address: &Path, cause: Cause, events: &Sender<Event>) {
        let dump = self.work.dump(address, cause, self.then);
        let hook = self.work.hook(&dump);
        let _ = events.send(Event::Dumped(Box::new(dump)));
        if let Err(why) = hook {
            let _ = events.send(Event::HookFailed(address.into(), why));
        }
    }

    fn sleep(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() && self.interrupt.raised().is_none() {
            std::thread::sleep(POLL);
            left = left.saturating_sub(POLL);
        }
    }
}
