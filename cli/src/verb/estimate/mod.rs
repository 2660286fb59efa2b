//! `livecore estimate DUMP`: predicts the size of a dump and the time to write it, for each codec.

mod sample;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::seal::format::ENTRY_LEN;
use livecore_compress::{Codec, Encoding, ReadAt};
use livecore_livedump::image::{self, RawLayout};
use livecore_livedump::publish::{Destination, free};
use livecore_livedump::take::{self, PlanOptions, TakeError};
use serde::Serialize;

use crate::dump_args::NumberArg;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, Opening};
use crate::session::Session;
use crate::text::Short;
use crate::unpack;

use sample::Sample;

const MANUAL: &str = "\
Examples:
  livecore estimate livecore.0.zst
  livecore estimate livecore.0.zst -o .
  livecore estimate --image guest.elf --kernel kernel -o .     before `livecore take`

Reads frames of 1 MiB at equal distances, compresses them with each codec, and scales sizes and times to the whole \
dump. The time includes reading and compressing, and not writing. The size is that of the frames and the index of a \
sealed file, with the interval that contains it with a probability of about 95 %, if the frames that were not read \
vary as those that were. If all frames were read, the size is exact. A sealed file also has a compressed copy of the \
sections, which is not in the size.

With -o, the last column states whether the size, with 1/16 and 64 KiB for the copy, fits into the free space of \
OUT's file system without what `minfree` in that directory reserves: `perhaps` if the free space is in the interval. \
If no codec fits, the exit code is 3.";

/// Codecs and levels that are estimated; the level of a codec without one is 0.
const CANDIDATES: [(Codec, i32); 6] = [
    (Codec::None, 0),
    (Codec::Gzip, 1),
    (Codec::Gzip, 6),
    (Codec::Zstd, 1),
    (Codec::Zstd, 3),
    (Codec::Zstd, 9),
];

/// Arguments of `livecore estimate`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Dump to convert, or directory with dumps; `-` for standard input
    #[arg(required_unless_present = "image", conflicts_with = "image")]
    pub dump: Option<PathBuf>,
    /// The number of the dump.
    #[command(flatten)]
    pub number: NumberArg,
    /// Memory image to take a dump of; needs --kernel
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<PathBuf>,
    /// Kernel ELF file of the image
    #[arg(short, long, value_name = "ELF", requires = "image")]
    pub kernel: Option<PathBuf>,
    /// Layout of a raw image (see `livecore take --help`)
    #[arg(long, value_name = "LAYOUT", requires = "image")]
    pub layout: Option<RawLayout>,
    /// File or directory to write to, for its free space
    #[arg(short, long, value_name = "OUT")]
    pub out: Option<PathBuf>,
    /// Maximum number of frames to read
    #[arg(long, value_name = "N", default_value = "32")]
    pub samples: NonZeroUsize,
    /// Number of threads [default: one per processor]
    #[arg(short = 'j', visible_short_alias = 'T', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print JSON (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// The directory of the output.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        let destination = Destination::parse(self.out.as_ref()?);
        destination.directory().map(Path::to_owned)
    }
}

/// The report, docs/schemas/estimate.schema.json.
#[derive(Debug, Serialize)]
struct Report {
    source: String,
    payload_size: u64,
    frames: u64,
    sampled_frames: u64,
    free: Option<u64>,
    candidates: Vec<Candidate>,
}

/// The estimate of a codec.
#[derive(Debug, Serialize)]
struct Candidate {
    codec: &'static str,
    level: Option<i32>,
    size: u64,
    error: u64,
    ratio: f64,
    seconds: f64,
    fits: Option<&'static str>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let free = match args.directory() {
        Some(directory) => Some(free::usable(directory)?),
        None => None,
    };
    let (payload, len, name) = source(args, session)?;
    let about = |failure: Failure| failure.about(&name);
    // The sample is in memory.
    let limit = usize::try_from(session.env.memory / 4 / u64::from(Encoding::FRAME_SIZE));
    let most = args.samples.get().min(limit.unwrap_or(usize::MAX)).max(1);
    let bar = session.bar("sample", args.json, None);
    let sample = Sample::read(&*payload, len, most, &bar).map_err(about)?;
    let mut candidates = Vec::new();
    for (codec, level) in CANDIDATES {
        let level = (codec != Codec::None).then_some(level);
        let encoding = Encoding::new(codec).level(level);
        let encoding = encoding.threads(crate::args::threads(args.threads));
        let found = sample.encode(&encoding, &bar).map_err(about)?;
        let size = found.size + sample.frames() * ENTRY_LEN as u64;
        candidates.push(Candidate {
            codec: codec.name(),
            level,
            size,
            error: found.error,
            ratio: (len as f64 / size as f64 * 100.0).round() / 100.0,
            seconds: (found.seconds * 1000.0).round() / 1000.0,
            fits: free.map(|free| fits(with_copy(size), found.error, free)),
        });
    }
    drop(bar);
    let report = Report {
        source: name.display().to_string(),
        payload_size: len,
        frames: sample.frames(),
        sampled_frames: sample.sampled(),
        free,
        candidates,
    };
    match args.json {
        true => crate::json::print(&report, &mut session.out)?,
        false => report.print(&mut session.out)?,
    }
    let out = args.out.as_deref().unwrap_or(Path::new("-"));
    if let Some(free) = free
        && report.candidates.iter().all(|one| one.fits == Some("no"))
    {
        let what = format!(
            "a dump of {name} does not fit: {} are free",
            Short(free),
            name = name.display()
        );
        session.warn(out, Id::NoSpace, what);
    }
    Ok(())
}

/// The payload to write, its size in bytes and its name.
fn source(
    args: &Args,
    session: &mut Session<'_>,
) -> Result<(Arc<dyn ReadAt>, u64, PathBuf), Failure> {
    let Some(path) = &args.image else {
        // clap requires one of them.
        let name = args.dump.clone().unwrap_or_default();
        let opening = Opening {
            threads: args.threads,
            unchecked: true,
            ..Opening::default()
        };
        let dump = input::dump(&name, opening, session)?;
        for warning in dump.envelope().warnings() {
            session.warn_of(&name, warning);
        }
        return Ok((dump.payload(), unpack::len(&dump), name));
    };
    let about = |failure: Failure| failure.about(path);
    let options = session
        .image_options()
        .layout(args.layout.clone())
        .kernel_is_asked(args.kernel.is_some() || session.env.kernel.is_some());
    let mut opened = image::open(path, &options).map_err(|e| about(e.into()))?;
    let kernel = args.kernel.as_ref().or(opened.kernel.as_ref());
    let Some(kernel) = kernel.or(session.env.kernel.as_ref()) else {
        let failure = Failure::usage("--image needs --kernel ELF").id_is(Id::NoKernelFile);
        return Err(about(failure));
    };
    let elf = input::kernel(kernel, session.env.memory)?;
    let failed = |e: TakeError| about(e.into());
    take::settle(&mut opened, &elf).map_err(|e| about(e.into()))?;
    session.warn_of_memory(path, &opened.memory);
    let taken = take::plan(opened.memory, &elf, &PlanOptions::default()).map_err(failed)?;
    let payload = taken.into_payload();
    let len = payload.size()?;
    Ok((Arc::new(payload), len, path.clone()))
}

/// The size of a sealed file whose frames and index have `size` bytes.
fn with_copy(size: u64) -> u64 {
    size.saturating_add(size / 16).saturating_add(64 << 10)
}

/// Whether a file of `size` bytes, plus or minus `error`, fits into `free` bytes.
fn fits(size: u64, error: u64, free: u64) -> &'static str {
    match () {
        () if size.saturating_add(error) <= free => "yes",
        () if size.saturating_sub(error) > free => "no",
        () => "perhaps",
    }
}

impl Report {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(
            out,
            "payload: {}, {} of {} frames read",
            Short(self.payload_size),
            self.sampled_frames,
            self.frames
        )?;
        if let Some(free) = self.free {
            writeln!(out, "free:    {}", Short(free))?;
        }
        let fits = if self.free.is_some() { "  fits" } else { "" };
        writeln!(
            out,
            "\n{:<6} {:>5}  {:>10} {:>12}  {:>7}  {:>9}{fits}",
            "codec", "level", "size", "", "ratio", "time"
        )?;
        for one in &self.candidates {
            let level = one.level.map(|level| level.to_string());
            let error = match one.error {
                0 => String::new(),
                error => format!("± {}", Short(error)),
            };
            let fits = one.fits.map(|fits| format!("  {fits}")).unwrap_or_default();
            writeln!(
                out,
                "{:<6} {:>5}  {:>10} {error:>12}  {:>7.2}  {:>7.1} s{fits}",
                one.codec,
                level.unwrap_or_default(),
                Short(one.size).to_string(),
                one.ratio,
                one.seconds,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_file_fits_perhaps_if_the_free_space_is_in_the_interval() {
        for (size, error, free, expected) in [
            (100, 10, 110, "yes"),
            (100, 10, 109, "perhaps"),
            (100, 10, 90, "perhaps"),
            (100, 10, 89, "no"),
            (100, 0, 100, "yes"),
            (u64::MAX, 1, 0, "no"),
        ] {
            assert_eq!(fits(size, error, free), expected, "{size} {error} {free}");
        }
    }
}
