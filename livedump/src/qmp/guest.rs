//! A guest: whether it runs, where its memory is, pause and go on.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livecore_compress::Progress;
use serde_json::{Value, json};

use super::{Client, Guard, QmpError, SharedRam, mtree, registers};
use crate::image::CpuState;

/// How often the state of a dump is asked for.
const POLL: Duration = Duration::from_millis(50);

/// The name under which QEMU keeps a descriptor of ours.
const FD_NAME: &str = "livecore-dump";

/// What a guest is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether its processors run.
    pub running: bool,
    /// QEMU's word for it: `running`, `paused`, `prelaunch`, `guest-panicked`, …
    pub word: String,
}

/// A guest of QEMU's.
#[derive(Debug)]
pub struct Guest {
    client: Client,
}

impl Guest {
    /// The guest behind `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Whether it runs.
    ///
    /// # Errors
    ///
    /// Those of [`Client::execute`](super::Client::execute).
    pub fn status(&mut self) -> Result<Status, QmpError> {
        let status = self.client.execute("query-status", json!({}))?;
        match (status["running"].as_bool(), status["status"].as_str()) {
            (Some(running), Some(word)) => Ok(Status {
                running,
                word: word.into(),
            }),
            _ => Err(QmpError::protocol(
                "query-status",
                status,
                "running, status",
            )),
        }
    }

    /// The file that the guest shares all of its memory through; `None` and the reason if it has
    /// no such file.
    ///
    /// That is a `memory-backend-file` with `share=on` which all RAM that the processors see at
    /// the machine's base comes from. Two backends (NUMA) are two files, which QEMU can dump and
    /// we do not join.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if QEMU does not answer. Memory that it does not share is the inner error.
    pub fn shared_ram(&mut self) -> Result<Result<Arc<SharedRam>, String>, QmpError> {
        let backends = self.client.execute("query-memdev", json!({}))?;
        let Some(backends) = backends.as_array() else {
            return Err(QmpError::protocol("query-memdev", backends, "a list"));
        };
        let [backend] = &backends[..] else {
            return Ok(Err(format!("it has {} memory backends", backends.len())));
        };
        let Some(id) = backend["id"].as_str() else {
            return Ok(Err("its memory backend has no name".into()));
        };
        if backend["share"].as_bool() == Some(false) {
            return Ok(Err(format!("its memory backend {id} has share=off")));
        }
        let path = format!("/objects/{id}");
        let property = |client: &mut Client, name: &str| {
            let asked = client.execute("qom-get", json!({ "path": path, "property": name }));
            match asked {
                Ok(value) => Ok(Some(value)),
                Err(QmpError::Refused { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        if property(&mut self.client, "share")? != Some(Value::Bool(true)) {
            return Ok(Err(format!("its memory backend {id} is not shared")));
        }
        let Some(Value::String(file)) = property(&mut self.client, "mem-path")? else {
            return Ok(Err(format!("its memory backend {id} has no file")));
        };
        if let Some(offset) = property(&mut self.client, "offset")?
            && offset.as_u64() != Some(0)
        {
            return Ok(Err(format!(
                "its memory begins at offset {offset} of {file}"
            )));
        }
        let text = self.client.monitor("info mtree -f")?;
        let pieces = match mtree::pieces(&text, id) {
            Some(pieces) if !pieces.is_empty() => pieces,
            _ => {
                return Err(QmpError::protocol(
                    "info mtree -f",
                    format!("no memory named {id}"),
                    "its addresses",
                ));
            }
        };
        let total: u64 = pieces
            .iter()
            .map(|(range, _)| range.end - range.start)
            .sum();
        let summary = self
            .client
            .execute("query-memory-size-summary", json!({}))?;
        if let Some(plugged) = summary["plugged-memory"].as_u64()
            && plugged > 0
        {
            return Ok(Err(format!("{plugged} bytes of memory were plugged in")));
        }
        // A little of the base memory may lie under ROM.
        if let Some(base) = summary["base-memory"].as_u64()
            && (total > base || base - total > 16 << 20)
        {
            return Ok(Err(format!("{total} of its {base} bytes are in {file}")));
        }
        Ok(match SharedRam::open(&file, &pieces) {
            Ok(ram) => Ok(Arc::new(ram)),
            // The file may be in another namespace, or be somebody else's.
            Err(error) => Err(format!("{file}: {error}")),
        })
    }

    /// The registers of all processors, of which some may be in a form that is not read. They are of
    /// one moment only while the guest is paused.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if QEMU does not answer.
    pub fn registers(&mut self) -> Result<Vec<CpuState>, QmpError> {
        let text = self.client.monitor("info registers -a")?;
        registers::parse(&text)
            .ok_or_else(|| QmpError::protocol("info registers -a", &text, "processors"))
    }

    /// Pauses the guest. `guard` is how to start the process that lets it go on when this one is
    /// killed; it is started before the guest is paused, and only if the guest runs. A guest that
    /// does not run stays as it is.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if the guard cannot be started, or QEMU does not pause the guest.
    pub fn pause(&mut self, guard: Command) -> Result<Paused<'_>, QmpError> {
        let was = self.status()?;
        let guard = if was.running {
            let guard = Guard::start(guard, &self.client)?;
            if let Err(error) = self.client.execute("stop", json!({})) {
                // It may have been heard all the same.
                guard.let_go();
                return Err(error);
            }
            Some(guard)
        } else {
            None
        };
        Ok(Paused {
            since: Instant::now(),
            guest: self,
            guard,
        })
    }

    /// Has QEMU write all memory and the processors' registers to `file`, as an ELF core. QEMU
    /// stops the guest all that while and lets it go on by itself if it ran. Gives how long that
    /// took.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if QEMU fails to write the dump, or `progress` ends it.
    pub fn dump_to(&mut self, file: &File, progress: &dyn Progress) -> Result<Duration, QmpError> {
        let name = json!({ "fdname": FD_NAME });
        self.client
            .execute_with("getfd", name, Some(file.as_fd()))?;
        let begun = Instant::now();
        let protocol = format!("fd:{FD_NAME}");
        self.client.execute(
            "dump-guest-memory",
            json!({ "paging": false, "protocol": protocol, "detach": true }),
        )?;
        let mut before = 0;
        loop {
            let state = self.client.execute("query-dump", json!({}))?;
            let completed = state["completed"].as_u64().unwrap_or(0);
            let step = completed.saturating_sub(before);
            progress.advance(step, step);
            before = before.max(completed);
            match state["status"].as_str() {
                Some("completed") => return Ok(begun.elapsed()),
                Some("active") => {}
                // It was said that it has begun.
                Some("none") if begun.elapsed() < self.client.timeout() => {}
                _ => {
                    return Err(QmpError::Refused {
                        command: "dump-guest-memory".into(),
                        why: "the dump has failed; is there room for all of the guest's memory?"
                            .into(),
                    });
                }
            }
            // What QEMU has begun it finishes, into a file that nobody has any more.
            if progress.cancelled() {
                return Err(QmpError::Cancelled);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// A guest that is paused. Dropped, it goes on if it ran before.
#[derive(Debug)]
pub struct Paused<'a> {
    guest: &'a mut Guest,
    guard: Option<Guard>,
    since: Instant,
}

impl Paused<'_> {
    /// The guest, to be asked while it is paused.
    pub fn guest(&mut self) -> &mut Guest {
        self.guest
    }

    /// The process that lets the guest go on if this one is killed; none if the guest did not run.
    pub fn guard(&self) -> Option<u32> {
        self.guard.as_ref().map(Guard::id)
    }

    /// Lets the guest go on if it ran before. Gives how long it was paused, `None` if it was paused
    /// by others and still is.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if QEMU does not resume the guest.
    pub fn end(mut self) -> Result<Option<Duration>, QmpError> {
        self.resume()
    }

    fn resume(&mut self) -> Result<Option<Duration>, QmpError> {
        let Some(guard) = self.guard.take() else {
            return Ok(None);
        };
        match self.guest.client.execute_anyhow("cont") {
            Ok(_) => {
                let paused = self.since.elapsed();
                drop(guard);
                Ok(Some(paused))
            }
            // The guard tries once more.
            Err(error) => {
                guard.let_go();
                Err(error)
            }
        }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // Nobody is left to hear of an error here; `end` tells.
        let _ = self.resume();
    }
}
