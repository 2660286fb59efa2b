//! The kernel of a dump and its debug file from the servers in `DEBUGINFOD_URLS`.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use livecore_kernel::{Agreement, Pair, build_id_in_memory};
use livecore_minidump::AnyDump;
use livecore_serve::command;

use crate::debuginfod::{self, Wanted};
use crate::id::Id;
use crate::session::Session;

/// Downloads the kernel of `dump`, the file `name`, by the build-id in its memory. Prints why there is
/// none.
pub(crate) fn kernel(dump: &AnyDump, name: &Path, session: &Session<'_>) -> Option<Pair> {
    if session.env.debuginfod.is_empty() {
        return None;
    }
    let found = match build_id_in_memory(dump) {
        Some(id) => debuginfod::file(&id, Wanted::Executable, &session.env),
        None => Err("the memory of the dump has no build-id".into()),
    };
    let pair = found.and_then(|path| match path {
        Some(path) => {
            // Debuggers get the path in commands.
            command::plain(&path).map_err(|e| e.to_string())?;
            Pair::open(dump, path).map(Some).map_err(|e| e.to_string())
        }
        None => Ok(None),
    });
    match pair {
        Ok(Some(pair)) if *pair.agreement() == Agreement::Same => {
            let line = format_args!("kernel: {}", pair.path().display());
            session.voice.say(Id::KernelUsed, line);
            Some(pair)
        }
        Ok(Some(_)) => failed("kernel", &"is not that of the dump", name, session),
        Ok(None) => None,
        Err(why) => failed("kernel", &why, name, session),
    }
}

/// `pair` with the debug file of its kernel, if it has none and a server provides it.
pub(crate) fn with_debug_file(pair: Pair, name: &Path, session: &Session<'_>) -> Pair {
    if session.env.debuginfod.is_empty() {
        return pair;
    }
    let Some(id) = pair.wanted_debug_file() else {
        return pair;
    };
    let found = debuginfod::file(&id, Wanted::Debuginfo, &session.env);
    let opened = found.and_then(|path| match path {
        Some(path) => File::open(path).map(Some).map_err(|e| e.to_string()),
        None => Ok(None),
    });
    match opened {
        Ok(Some(file)) => pair.with_debug_information(Arc::new(file)),
        Ok(None) => pair,
        Err(why) => {
            let _: Option<()> = failed("debug file", &why, name, session);
            pair
        }
    }
}

fn failed<T>(what: &str, why: &dyn fmt::Display, name: &Path, session: &Session<'_>) -> Option<T> {
    let line = format_args!("{what} not downloaded: {why}");
    session.voice.warn(name, Id::NotDownloaded, line);
    None
}
