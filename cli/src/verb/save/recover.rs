//! Saves what is left of a dump that cannot be read or decoded.

use std::sync::Arc;

use livecore_livedump::disk::Lossy;
use livecore_minidump::salvage::{Options, Salvage};
use livecore_minidump::{Error, OpenOptions};

use super::super::salvage;
use super::checked::{self, Check};
use super::place::Place;
use super::plan::{Plan, stream_options};
use super::report::Done;
use super::stored::stored;
use super::write::{self, Why};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Saves what salvage recovers, and leaves the dump on the device. If salvage recovers nothing and every
/// sector can be read, saves the bytes as they are stored. `error` is why the dump was not saved.
pub(super) fn recover(
    place: &Place,
    plan: &Plan<'_>,
    error: Error,
    session: &mut Session<'_>,
) -> Result<Done, Failure> {
    let is_unreadable = match &error {
        Error::Io { .. } => true,
        Error::Broken { .. } => false,
        _ => return Err(error.into()),
    };
    let source = place.dump.restored(&place.region, plan.force);
    let begin = place.dump.at.checked_sub(place.dump.header.dumpextent);
    let range = begin.unwrap_or(0)..place.dump.at;
    let silent = plan.json;
    let bar = session.bar("save: scan", silent, Some(range.end - range.start));
    let lossy = Lossy::scan(Arc::clone(&source), range, &bar);
    drop(bar);
    let lossy = lossy?;
    let lost = lossy.lost_bytes();
    if is_unreadable && lost == 0 {
        // The device can be read now: it is not the data that failed.
        return Err(error.into());
    }
    let failure = Failure::from(error);
    session.warn(
        &place.name,
        failure.id(),
        match lost {
            0 => format!("{}; saving what can be decoded", failure.what()),
            n => format!("{n} bytes cannot be read; saving the rest"),
        },
    );
    let options = Options::default().open(
        OpenOptions::new()
            .stream(stream_options(session))
            .bitmap_limit(session.env.memory),
    );
    let bar = session.bar("save: salvage", silent, None);
    let found = Salvage::examine(Arc::new(lossy), &options, &bar);
    drop(bar);
    let threads = Some(plan.target.encoding.threads);
    let found = found.map_err(Failure::from).and_then(|found| {
        salvage::require_sound(&found, threads, silent, session)?;
        Ok(found)
    });
    let found = match found {
        Ok(found) => found,
        Err(_) if lost == 0 => {
            let data = place.dump.data(&source).ok_or_else(|| {
                Failure::broken("the data is not on the device").about(&place.name)
            })?;
            return stored(place, plan, &data, session);
        }
        Err(failure) => return Err(failure),
    };
    let len = found.payload_len()?;
    let write: &write::Writer<'_> = &|target, out, progress| found.write(target, out, progress);
    let file = match write::sealed(place, plan, Some(len), write, session) {
        Ok(file) => file,
        Err(Why::Output(failure)) => return Err(failure),
        Err(Why::Input(error)) => return Err(error.into()),
    };
    checked::verified(&file.path, session)?;
    let pages = &found.report().pages;
    let what = format_args!(
        "incomplete: {} of {} pages saved in {}",
        pages.kept,
        pages.promised,
        file.path.display()
    );
    session.fail(&Failure::new(Exit::BROKEN, what).about(&place.name));
    Ok(Done {
        file,
        check: Check::Salvaged,
    })
}
