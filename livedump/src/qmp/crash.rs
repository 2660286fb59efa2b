//! Waits for the crash of a guest.
//!
//! QEMU must pause a guest that crashes, so that its memory and registers are still those of the crash
//! (QEMU `docs/interop/qmp`, `set-action`, since 6.0). QEMU reports a crash with an event; its state shows a
//! crash from before the connection.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Guest, QmpError};

/// The interval for querying the state of a guest that QEMU is about to pause or reset.
const POLL: Duration = Duration::from_millis(50);

/// Why a guest is dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The guest's kernel reported a panic to the device pvpanic.
    Panic,
    /// The guest's watchdog expired.
    Watchdog,
    /// The guest reset itself: a triple fault, or a reboot.
    Reset,
}

impl Cause {
    /// The word for messages and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Watchdog => "watchdog",
            Self::Reset => "reset",
        }
    }
}

impl Guest {
    /// Makes QEMU pause the guest on each of `causes`.
    ///
    /// # Errors
    ///
    /// Those of [`Client::execute`](super::Client::execute).
    pub fn pause_on(&mut self, causes: &[Cause]) -> Result<(), QmpError> {
        let mut actions = json!({});
        for cause in causes {
            match cause {
                Cause::Panic => actions["panic"] = json!("pause"),
                Cause::Watchdog => actions["watchdog"] = json!("pause"),
                // QEMU handles the reset as a shutdown, and pauses instead of exiting.
                Cause::Reset => {
                    actions["reboot"] = json!("shutdown");
                    actions["shutdown"] = json!("pause");
                }
            }
        }
        self.client.execute("set-action", actions).map(drop)
    }

    /// The crash that the guest's state shows, if it is one of `causes`. A reset leaves no such state.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::status`].
    pub fn crashed(&mut self, causes: &[Cause]) -> Result<Option<Cause>, QmpError> {
        let cause = match self.status()?.word.as_str() {
            "guest-panicked" => Cause::Panic,
            "watchdog" => Cause::Watchdog,
            _ => return Ok(None),
        };
        Ok(Some(cause).filter(|cause| causes.contains(cause)))
    }

    /// Waits at most `wait` for an event that is one of `causes`. If QEMU paused the guest instead of exiting
    /// because of [`Guest::pause_on`], makes it exit, or resets the guest.
    ///
    /// # Errors
    ///
    /// Those of [`Client::execute`](super::Client::execute).
    pub fn next_crash(
        &mut self,
        causes: &[Cause],
        wait: Duration,
    ) -> Result<Option<Cause>, QmpError> {
        let begun = Instant::now();
        loop {
            let left = wait.saturating_sub(begun.elapsed());
            let Some(event) = self.client.event(left)? else {
                return Ok(None);
            };
            let reason = event["data"]["reason"].as_str();
            let cause = match event["event"].as_str() {
                Some("GUEST_PANICKED") => Cause::Panic,
                Some("WATCHDOG") => Cause::Watchdog,
                Some("SHUTDOWN") if reason == Some("guest-reset") => Cause::Reset,
                // QEMU handled another client's command as a shutdown too.
                Some("SHUTDOWN")
                    if reason == Some("host-qmp-system-reset")
                        && causes.contains(&Cause::Reset) =>
                {
                    self.reset(causes)?;
                    continue;
                }
                Some("SHUTDOWN") if causes.contains(&Cause::Reset) => {
                    self.exit_qemu()?;
                    continue;
                }
                _ => continue,
            };
            if causes.contains(&cause) {
                return Ok(Some(cause));
            }
        }
    }

    /// Waits until QEMU has paused the guest after a crash. Returns whether it did so within the time limit of
    /// an answer.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::status`].
    pub fn settle(&mut self) -> Result<bool, QmpError> {
        let (begun, limit) = (Instant::now(), self.client.timeout());
        while self.status()?.running {
            if begun.elapsed() >= limit {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
        Ok(true)
    }

    /// Resets the guest and runs it, and pauses it again on each of `causes`.
    ///
    /// # Errors
    ///
    /// Those of [`Client::execute`](super::Client::execute).
    pub fn reset(&mut self, causes: &[Cause]) -> Result<(), QmpError> {
        // With the action of `pause_on`, QEMU would handle it as a shutdown.
        self.client
            .execute("set-action", json!({ "reboot": "reset" }))?;
        self.client.execute("system_reset", json!({}))?;
        let (begun, limit) = (Instant::now(), self.client.timeout());
        while self.status()?.word != "prelaunch" && begun.elapsed() < limit {
            std::thread::sleep(POLL);
        }
        self.pause_on(causes)?;
        self.client.execute("cont", json!({})).map(drop)
    }

    /// Makes QEMU exit.
    ///
    /// # Errors
    ///
    /// Those of [`Client::execute`](super::Client::execute).
    pub fn exit_qemu(&mut self) -> Result<(), QmpError> {
        match self.client.execute("quit", json!({})) {
            // It may exit before it answers.
            Ok(_) | Err(QmpError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
