//! Reports of the server: messages, JSON, hooks and counters.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use livecore_livedump::netdump::{Ended, Events, Kept, Peer};

use crate::exit::Exit;
use crate::id::Id;
use crate::session::Session;
use crate::text::Bytes;

use super::hook::Hook;
use super::{Args, outcome};

/// Reports of the server.
pub(super) struct Reports<'a, 's> {
    session: &'a mut Session<'s>,
    json: bool,
    once: bool,
    metrics: Option<PathBuf>,
    hook: Option<Hook>,
}

impl<'a, 's> Reports<'a, 's> {
    pub(super) fn new(args: &Args, hook: Option<Hook>, session: &'a mut Session<'s>) -> Self {
        Self {
            session,
            json: args.json,
            once: args.once,
            metrics: args.metrics.clone(),
            hook,
        }
    }

    /// Waits for the hook of the only dump.
    pub(super) fn finish(self) {
        if let Some(hook) = self.hook
            && self.once
        {
            hook.wait();
        }
    }

    /// Prints an outcome and passes it to the hook.
    fn publish(&mut self, ended: &Ended, kept: &Kept) -> io::Result<()> {
        let dump = outcome::Dump::new(ended, kept);
        if self.json {
            crate::json::print_line(&dump, &mut self.session.out)?;
            self.session.out.flush()?;
        }
        if let Some(hook) = &mut self.hook {
            let mut line = Vec::new();
            crate::json::print_line(&dump, &mut line)?;
            hook.send(&line)?;
        }
        Ok(())
    }
}

impl Events for Reports<'_, '_> {
    fn began(&mut self, peer: Peer, host: &str, path: &[u8], granted: bool) {
        let voice = &self.session.voice;
        voice.say(
            Id::DumpBegan,
            format_args!("{host} ({}): began to send a dump", peer.address),
        );
        if !granted {
            let path = String::from_utf8_lossy(path);
            voice.say(
                Id::PathNotGranted,
                format_args!("{host}: no directory below --out has the requested path {path}"),
            );
        }
    }

    fn refused(&mut self, peer: Peer, host: &str, why: &str) {
        let line = format_args!("({}): dump refused: {why}", peer.address);
        self.session
            .voice
            .warn(host.as_ref(), Id::DumpRefused, line);
    }

    fn ended(&mut self, ended: &Ended, kept: &Kept) {
        let subject = match &kept.dump {
            Some(path) => path.clone(),
            None => kept.host.clone().into(),
        };
        let exit = outcome::exit(kept);
        let line = outcome::line(ended, kept);
        let voice = &self.session.voice;
        for note in &kept.notes {
            voice.say(Id::of_notice(note), note);
        }
        if exit == Exit::DONE {
            let seconds = ended.took.as_secs_f64();
            let size = Bytes(ended.data.total());
            let line = format_args!("{}: {size} in {seconds:.1} s, {line}", subject.display());
            voice.say(Id::DumpReceived, line);
        } else {
            voice.warn(&subject, Id::DumpIncomplete, line);
        }
        if kept.is_dump() {
            self.session.note(exit);
        }
        if let Err(error) = self.publish(ended, kept) {
            let line = format_args!("cannot report the outcome: {error}");
            self.session.voice.warn(&subject, Id::HookFailed, line);
        }
    }

    fn counters(&mut self, text: &str) {
        if let Some(path) = &self.metrics
            && let Err(error) = replace(path, text)
        {
            let line = format_args!("cannot write the counters: {error}");
            self.session.voice.warn(path, Id::CountersNotWritten, line);
        }
    }

    fn stops(&mut self) -> bool {
        self.session.env.interrupt.raised().is_some() || self.session.out_is_closed()
    }
}

/// Replaces a small file that others read. It is not synced: after a crash, the counters start again.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".livecore.")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|e| e.error)
}
