//! Saves one dump, by its kind.

use std::path::PathBuf;
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt};
use livecore_livedump::publish::{self, Stem};
use livecore_livedump::sys::syslog::Severity;
use livecore_minidump::encryption::{Cipher, KeyBlock};
use livecore_minidump::textdump::TextDump;
use livecore_minidump::{AnyDump, Error, Magic, OpenOptions, convert};

use super::checked::{self, Check};
use super::place::Place;
use super::plan::{Plan, stream_options};
use super::report::{Done, Saved};
use super::stored::copy;
use super::write::{self, Name, Why};
use super::{opaque, recover};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::published;
use crate::session::Session;

/// Saves the dump of `place`, checks the file, and clears the dump. `None` if the dump was cleared before.
pub(super) fn save(
    place: &Place,
    plan: &Plan<'_>,
    session: &mut Session<'_>,
) -> Result<Option<Saved>, Failure> {
    let dump = &place.dump;
    if dump.is_cleared && !plan.force {
        let name = place.name.display();
        let line =
            format_args!("{name}: no dump: its header was cleared before; use -f to save it");
        session.voice.say(Id::AlreadySaved, line);
        return Ok(None);
    }
    for line in publish::info::text(&dump.header, &place.name.display().to_string(), 0).lines() {
        session.voice.detail(Id::InfoLine, line);
    }
    if !dump.findings.is_empty() && !plan.force {
        for finding in &dump.findings {
            let failure = Failure::of(Exit::BROKEN, finding).about(&place.name);
            place.log_error(&failure);
            session.fail(&failure);
        }
        let line = format_args!("{}: not saved; use -f to save it", place.name.display());
        session.voice.say(Id::DeviceKept, line);
        return Ok(Some(Saved::not(place)));
    }
    for finding in &dump.findings {
        let id = Failure::of(Exit::BROKEN, finding).id();
        session.warn(&place.name, id, finding);
    }
    place.log(
        Severity::Alert,
        &match &dump.header.panicstring[..] {
            [] => "reboot".into(),
            text => format!("reboot after panic: {}", String::from_utf8_lossy(text)),
        },
    );
    let done = match dump.header {
        ref header if header.magic == Magic::Text => text(place, plan, session),
        ref header if header.dumpkeysize > 0 => encrypted(place, plan, session),
        _ => plain(place, plan, session),
    }?;
    finish(place, plan, done, session).map(Some)
}

/// Logs the saved file, and clears the dump if the file was checked.
fn finish(
    place: &Place,
    plan: &Plan<'_>,
    done: Done,
    session: &mut Session<'_>,
) -> Result<Saved, Failure> {
    let Done { file, check } = done;
    let is_encrypted = file.stem == Stem::Encrypted;
    let line = published::log_line(&file.path, is_encrypted, file.codec);
    place.log(Severity::Notice, &line);
    let mut saved = Saved::of(place, &file, check);
    if !check.is_safe() {
        session.note(Exit::BROKEN);
        saved.say("kept on the device", Id::DeviceKept, session);
        return Ok(saved);
    }
    if plan.keep {
        saved.say("kept on the device, as -k requests", Id::Written, session);
        return Ok(saved);
    }
    let cleared = place.clear();
    saved.cleared = cleared.is_ok();
    match cleared {
        Ok(()) => saved.say("device cleared", Id::Written, session),
        Err(failure) => {
            saved.say("kept on the device", Id::DeviceKept, session);
            let failure = failure.about(&place.name);
            place.log_error(&failure);
            session.fail(&failure);
        }
    }
    Ok(saved)
}

/// A dump that is not encrypted: sealed, with the codec of the plan.
fn plain(place: &Place, plan: &Plan<'_>, session: &mut Session<'_>) -> Result<Done, Failure> {
    let source = place.dump.restored(&place.region, plan.force);
    let options = OpenOptions::new()
        .stream(stream_options(session))
        .bitmap_limit(session.env.memory);
    let opened = match AnyDump::from_source(Arc::clone(&source), &options) {
        Ok(opened) => opened,
        Err(
            error @ (Error::Broken { .. } | Error::NotADump { .. } | Error::Unsupported { .. }),
        ) => {
            return opaque::save(place, plan, &error, session);
        }
        Err(error @ Error::Io { .. }) => return recover::recover(place, plan, error, session),
        Err(error) => return Err(error.into()),
    };
    for warning in opened.envelope().warnings() {
        session.warn_of(&place.name, warning);
    }
    let len = opened.envelope().known_len();
    let write: &write::Writer<'_> =
        &|target, out, progress| convert::convert_any(&opened, target, out, progress);
    match write::sealed(place, plan, len, write, session) {
        Ok(file) => Ok(Done {
            check: checked::verified(&file.path, session)?,
            file,
        }),
        Err(Why::Output(failure)) => Err(failure),
        Err(Why::Input(error)) => recover::recover(place, plan, error, session),
    }
}

/// A text dump: the archive as savecore(8) saves it.
fn text(place: &Place, plan: &Plan<'_>, session: &mut Session<'_>) -> Result<Done, Failure> {
    if plan.encryption.is_some() {
        let failure = Failure::new(Exit::UNSUPPORTED, "--encrypt does not apply to a text dump");
        return Err(failure.next("save it without --encrypt"));
    }
    let source = place.dump.restored(&place.region, plan.force);
    let Some(dump) = TextDump::from_source(source, &stream_options(session))? else {
        return Err(Failure::broken("not a text dump"));
    };
    if let Some(damage) = dump.damage() {
        if let Error::Io { .. } = damage {
            return Err(Failure::could_not(damage));
        }
        let names: Vec<_> = dump.members().iter().map(|member| &*member.name).collect();
        let what = match names[..] {
            [] => format!("{damage}; no complete member"),
            _ => format!("{damage}; complete members: {}", names.join(", ")),
        };
        session.warn(&place.name, Id::Broken, what);
    }
    let archive = dump.archive();
    let codec = write::codec_of_text(plan);
    let name = Name {
        stem: Stem::Text,
        codec,
        suffix: codec,
        key: None,
    };
    let file = copy(place, plan, &*archive, name, session)?;
    let mut check = checked::same(&file.path, codec, &*archive, session)?;
    if check == Check::Identical && dump.damage().is_none() {
        check = checked::verified(&file.path, session)?;
    }
    Ok(Done { file, check })
}

/// An encrypted dump: the data and the key block, without changes, for decryptcore(8).
fn encrypted(place: &Place, plan: &Plan<'_>, session: &mut Session<'_>) -> Result<Done, Failure> {
    let dump = &place.dump;
    if plan.encryption.is_some() {
        let line = format_args!(
            "{}: encrypted already; --encrypt has no effect",
            place.name.display()
        );
        session.voice.say(Id::OptionUnused, line);
    }
    let key = dump.key_block(&*place.region)?;
    let (Some(key), Some(data)) = (key, dump.data(&place.region)) else {
        return Err(Failure::broken("the data is not on the device"));
    };
    match KeyBlock::parse(&key, 0) {
        Ok(block)
            if block.cipher == Cipher::Aes256Cbc && !dump.header.dumplength.is_multiple_of(16) =>
        {
            let len = dump.header.dumplength;
            let what =
                format!("the data has {len:#x} bytes, not whole blocks of 16: its end is missing");
            session.warn(&place.name, Id::StreamEndsEarly, what);
        }
        Ok(_) => {}
        Err(error) => session.warn(&place.name, Id::KeyFile, error),
    }
    let name = Name {
        stem: Stem::Encrypted,
        codec: Codec::None,
        suffix: Codec::None,
        key: Some(key.clone()),
    };
    let file = copy(place, plan, &data, name, session)?;
    let saved_key: PathBuf = file.path.with_file_name(format!("key.{}", file.number));
    let about = |e: std::io::Error| Failure::from(e).about(&saved_key);
    let key_file = published::open(&saved_key, session)?;
    let mut found = vec![0; key.len() + 1];
    let got = key_file.read_full_at(&mut found, 0).map_err(about)?;
    let check = match found[..got] == key {
        true => checked::same(&file.path, Codec::None, &data, session)?,
        false => Check::Broken,
    };
    Ok(Done { file, check })
}
