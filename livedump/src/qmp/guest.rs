//! A QEMU guest: its state, its memory, pause and resume.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livecore_compress::Progress;
use serde_json::{Value, json};

use super::{Client, Guard, QmpError, SharedRam, mtree, registers};
use crate::image::CpuState;

/// The interval for querying the state of a dump.
const POLL: Duration = Duration::from_millis(50);

/// QEMU's name for our file descriptor.
const FD_NAME: &str = "livecore-dump";

/// The state of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether its CPUs run.
    pub running: bool,
    /// QEMU's name of the state: `running`, `paused`, `prelaunch`, `guest-panicked`, …
    pub word: String,
}

/// A QEMU guest.
#[derive(Debug)]
pub struct Guest {
    pub(super) client: Client,
}

impl Guest {
    /// The guest that `client` controls.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Queries the state.
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

    /// The file through which the guest shares all of its memory; or the reason why there is none.
    ///
    /// It is a `memory-backend-file` with `share=on` that provides all RAM at the base of the CPUs'
    /// address space. Several backends (NUMA) are several files, which are not supported here; QEMU
    /// can dump them.
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
            return Ok(Err(format!(
                "the guest has {} memory backends, expected 1",
                backends.len()
            )));
        };
        let Some(id) = backend["id"].as_str() else {
            return Ok(Err("the memory backend has no name".into()));
        };
        if backend["share"].as_bool() == Some(false) {
            return Ok(Err(format!("memory backend {id} has share=off")));
        }
        let path = format!("/objects/{id}");
        let property = |client: &mut Client, name: &str| {
            let answer = client.execute("qom-get", json!({ "path": path, "property": name }));
            match answer {
                Ok(value) => Ok(Some(value)),
                Err(QmpError::Refused { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        if property(&mut self.client, "share")? != Some(Value::Bool(true)) {
            return Ok(Err(format!("memory backend {id} is not shared")));
        }
        let Some(Value::String(file)) = property(&mut self.client, "mem-path")? else {
            return Ok(Err(format!("memory backend {id} has no file")));
        };
        if let Some(offset) = property(&mut self.client, "offset")?
            && offset.as_u64() != Some(0)
        {
            return Ok(Err(format!(
                "memory begins at offset {offset} of {file}, expected 0"
            )));
        }
        let text = self.client.monitor("info mtree -f")?;
        let pieces = match mtree::pieces(&text, id) {
            Some(pieces) if !pieces.is_empty() => pieces,
            _ => {
                return Err(QmpError::protocol(
                    "info mtree -f",
                    format!("no memory region {id}"),
                    "the backend's addresses",
                ));
            }
        };
        let total: u64 = pieces
            .iter()
            .map(|(range, _)| range.end.0 - range.start.0)
            .sum();
        let summary = self
            .client
            .execute("query-memory-size-summary", json!({}))?;
        if let Some(plugged) = summary["plugged-memory"].as_u64()
            && plugged > 0
        {
            return Ok(Err(format!(
                "the guest has {plugged} bytes of hot-plugged memory"
            )));
        }
        // A small part of the base memory may be hidden by ROM.
        if let Some(base) = summary["base-memory"].as_u64()
            && (total > base || base - total > 16 << 20)
        {
            return Ok(Err(format!(
                "{file} contains {total} of {base} bytes of memory"
            )));
        }
        Ok(match SharedRam::open(&file, &pieces) {
            Ok(ram) => Ok(Arc::new(ram)),
            // The file may be in another namespace or belong to another user.
            Err(error) => Err(format!("{file}: {error}")),
        })
    }

    /// The registers of all CPUs, some of which may be in an unsupported form. They are a
    /// consistent snapshot only while the guest is paused.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if QEMU does not answer.
    pub fn registers(&mut self) -> Result<Vec<CpuState>, QmpError> {
        let text = self.client.monitor("info registers -a")?;
        registers::parse(&text)
            .ok_or_else(|| QmpError::protocol("info registers -a", &text, "processors"))
    }

    /// Pauses the guest. `guard` is the command of the process that resumes it if this one is
    /// killed; it is started before the guest is paused. A guest that does not run is left
    /// unchanged, without a guard.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if the guard cannot be started, or QEMU does not pause the guest.
    pub fn pause(&mut self, guard: Command) -> Result<Paused<'_>, QmpError> {
        let was = self.status()?;
        let guard = if was.running {
            let guard = Guard::start(guard, &self.client)?;
            if let Err(error) = self.client.execute("stop", json!({})) {
                // QEMU may have executed the command.
                guard.resume_guest();
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

    /// Makes QEMU write all memory and the CPUs' registers to `file`, as an ELF core. QEMU pauses a
    /// running guest for that time. Returns how long it took.
    ///
    /// # Errors
    ///
    /// [`QmpError`] if QEMU fails to write the dump, or `progress` ends it.
    pub fn dump_to(&mut self, file: &File, progress: &dyn Progress) -> Result<Duration, QmpError> {
        if !self.client.passes_files() {
            return Err(QmpError::Refused {
                command: "getfd".into(),
                why: "a TCP connection cannot pass a file; use the Unix socket, or share the guest's memory \
                      (share=on)"
                    .into(),
            });
        }
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
                // The dump was reported as started.
                Some("none") if begun.elapsed() < self.client.timeout() => {}
                _ => {
                    return Err(QmpError::Refused {
                        command: "dump-guest-memory".into(),
                        why: "the dump failed; check the disk space for the guest's memory".into(),
                    });
                }
            }
            // QEMU completes the dump, to a file that is no longer used.
            if progress.cancelled() {
                return Err(QmpError::Cancelled);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// A paused guest. Dropping it resumes the guest if it ran before.
#[derive(Debug)]
pub struct Paused<'a> {
    guest: &'a mut Guest,
    guard: Option<Guard>,
    since: Instant,
}

impl Paused<'_> {
    /// The guest, for commands while it is paused.
    pub fn guest(&mut self) -> &mut Guest {
        self.guest
    }

    /// The process id of the guard; `None` if the guest did not run.
    pub fn guard(&self) -> Option<u32> {
        self.guard.as_ref().map(Guard::id)
    }

    /// Resumes the guest if it ran before. Returns how long it was paused, or `None` if it was
    /// already paused and still is.
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
            // The guard tries again.
            Err(error) => {
                guard.resume_guest();
                Err(error)
            }
        }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // The error cannot be reported here; `end` reports it.
        let _ = self.resume();
    }
}
