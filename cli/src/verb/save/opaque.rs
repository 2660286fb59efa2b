//! Saves a dump whose header is good and whose structure livecore cannot parse.

use std::sync::Arc;

use livecore_compress::{Codec, ReadAt, Stream};
use livecore_minidump::{Error, convert};

use super::checked;
use super::place::Place;
use super::plan::{Plan, stream_options};
use super::recover;
use super::report::Done;
use super::stored::stored;
use super::write::{self, Why};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Saves the bytes of the dump sealed, or else as they are stored. `why` states what cannot be parsed.
pub(super) fn save(
    place: &Place,
    plan: &Plan<'_>,
    why: &Error,
    session: &mut Session<'_>,
) -> Result<Done, Failure> {
    let source = place.dump.restored(&place.region, plan.force);
    let Some(data) = place.dump.data(&source) else {
        // With -f: lengths that do not fit the device.
        return recover::recover(place, plan, Error::broken("dump", 0, "", ""), session);
    };
    let id = Failure::of(Exit::BROKEN, why).id();
    session.warn(
        &place.name,
        id,
        format_args!("{why}; saved without a check of its structure"),
    );
    let data: Arc<dyn ReadAt> = Arc::new(data);
    let codec = place.dump.header.codec().unwrap_or(Codec::None);
    let payload = match codec {
        Codec::None => Ok(Arc::clone(&data)),
        _ => Stream::from_source(Arc::clone(&data), &stream_options(session))
            .map(|stream| stream.content()),
    };
    let Ok(payload) = payload else {
        return stored(place, plan, &*data, session);
    };
    let header = &place.dump.header;
    let write: &write::Writer<'_> =
        &|target, out, progress| convert::finish(&*payload, header.clone(), target, out, progress);
    let len = (codec == Codec::None).then_some(header.dumplength);
    match write::sealed(place, plan, len, write, session) {
        Ok(file) if plan.encryption.is_some() => Ok(Done {
            // Without the private key, only the seal can be checked.
            check: checked::verified(&file.path, session)?,
            file,
        }),
        Ok(file) => Ok(Done {
            check: checked::same(&file.path, plan.target.encoding.codec, &*payload, session)?,
            file,
        }),
        Err(Why::Output(failure)) => Err(failure),
        Err(Why::Input(Error::Broken { .. })) => stored(place, plan, &*data, session),
        Err(Why::Input(error)) => recover::recover(place, plan, error, session),
    }
}
