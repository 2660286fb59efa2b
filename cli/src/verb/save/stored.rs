//! Saves the bytes of a dump as they are stored on its device.

use livecore_compress::{Codec, ReadAt};
use livecore_livedump::publish::Stem;

use super::checked::{self, Check};
use super::place::Place;
use super::plan::Plan;
use super::report::Done;
use super::write::{self, File, Name, Why};
use crate::failure::Failure;
use crate::published;
use crate::session::Session;

/// Saves the bytes as they are stored on the device, as savecore(8) does.
pub(super) fn stored(
    place: &Place,
    plan: &Plan<'_>,
    data: &dyn ReadAt,
    session: &mut Session<'_>,
) -> Result<Done, Failure> {
    if plan.encryption.is_some() {
        let failure = Failure::broken("--encrypt cannot encrypt a damaged compressed dump");
        return Err(failure.next("save it without --encrypt"));
    }
    let name = Name {
        stem: Stem::Vmcore,
        codec: Codec::None,
        suffix: place.dump.header.codec().unwrap_or(Codec::None),
        key: None,
    };
    let file = copy(place, plan, data, name, session)?;
    let check = checked::same(&file.path, Codec::None, data, session)?;
    let len = published::open(&file.path, session)?.size()?;
    Ok(Done {
        check: match len == file.len {
            true => check,
            false => Check::Broken,
        },
        file,
    })
}

/// Copies the stored bytes of the dump.
pub(super) fn copy(
    place: &Place,
    plan: &Plan<'_>,
    data: &dyn ReadAt,
    name: Name,
    session: &mut Session<'_>,
) -> Result<File, Failure> {
    let copied = write::copy(place, plan, data, name, &place.dump.header, session);
    copied.map_err(|why| match why {
        Why::Input(error) => error.into(),
        Why::Output(failure) => failure,
    })
}
