//! `livecore export` of a text dump: an ordinary tar archive.

use livecore_compress::Codec;
use livecore_livedump::publish::{self, Destination};
use livecore_minidump::textdump::TextDump;

use super::Args;
use crate::failure::Failure;
use crate::id::Id;
use crate::session::Session;
use crate::text::Bytes;
use crate::text_dump;
use crate::unpack;

/// Writes the archive.
pub(super) fn run(dump: &TextDump, args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let path = match Destination::parse(&args.output) {
        Destination::Stdout => {
            let failure = Failure::usage("cannot export to standard output: OUT must be a file");
            return Err(failure.id_is(Id::InvalidValue));
        }
        Destination::File(path) => path,
        Destination::Directory(directory) => {
            let number = unpack::number_of(&args.dump);
            directory.join(format!("textdump.tar.{number}"))
        }
    };
    if args.json {
        return Err(Failure::usage("--json does not apply to a text dump")
            .id_is(Id::ConflictingArguments)
            .about(&args.dump));
    }
    let len: u64 = dump.members().iter().map(|member| member.len).sum();
    let options = publish::Options::of_dump(Codec::None, Some(len)).force(args.force);
    let mut pending = Destination::File(path.clone()).begin(&options)?;
    dump.write_tar(&mut pending)
        .map_err(|e| Failure::from(e).about(&args.dump))?;
    // Only a dump in a directory has an info file.
    pending.publish(&|_| Vec::new())?;
    session.voice.say(
        Id::Written,
        format_args!("{}: {} of text", path.display(), Bytes(len)),
    );
    text_dump::check(dump, &args.dump)
}
