//! `livecore save [DIR] [DEVICE...]`: saves the dump of a crashed system, as savecore(8) does.
//!
//! [`place`] finds dumps on a device or in an image, [`dump`] saves one of them by its kind, [`checked`]
//! compares the saved file with the device, and [`report`] prints the outcome. A device is cleared when
//! the file in the directory is complete, synced and checked.

mod checked;
mod devices;
mod dump;
mod object;
mod opaque;
pub(crate) mod place;
mod plan;
mod recover;
mod report;
mod stored;
mod why;
mod write;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use livecore_compress::Codec;

use crate::args::{CodecArgs, ContainerArg, EncryptArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::remote::is_remote;
use crate::session::Session;
use crate::{keys, output};
use plan::Plan;
use report::Saved;

const MANUAL: &str = "\
Examples:
  livecore save -m 10 /var/crash               every dump device of this FreeBSD system
  livecore save /var/crash /dev/ada0p2
  livecore save -k . disk.img                  from the image of a disk or a partition
  livecore save s3://crash/web/ /dev/ada0p2    to an object store (docs/stores.md)
  livecore save --encrypt public.pem /var/crash /dev/ada0p2
  livecore save -C disk.img                    exits with 0 if there is a dump, and with 1 if not

The options are those of savecore(8). In an image of a whole disk, livecore finds the dumps in GPT, MBR \
and BSD-label partitions. Convert images of other formats with `qemu-img convert -O raw`.

Without DEVICE, on FreeBSD: /dev/dumpdev, then the devices with type swap or dump in /etc/fstab.

livecore writes vmcore.N.zst, info.N and bounds, and links vmcore.last.zst to the newest dump. It \
recompresses a dump that the kernel compressed. It saves an encrypted dump as vmcore_encrypted.N and key.N \
without changes, and a text dump as textdump.tar.N (with -z, as textdump.tar.N.gz).

livecore verifies the file before it clears the dump on the device. If the file does not verify, livecore \
keeps it and the dump on the device, and exits with 2. If sectors cannot be read, livecore saves what \
`livecore salvage` recovers. If the headers contradict each other or the device, livecore saves and changes \
nothing, except with -f. With -C, it exits with 0 if there is a dump and 1 if not, as savecore(8) does.";

/// Arguments of `livecore save`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL, override_usage = "\
livecore save [OPTIONS] [DIR [DEVICE...]]
       livecore save -C [DEVICE...]
       livecore save -c [DEVICE...]")]
pub struct Args {
    /// Directory for the dump [default: .], then devices or images
    ///
    /// With -C and -c, all arguments are devices or images. A name without a slash that is not a
    /// file is a device in /dev.
    #[arg(value_name = "DIR] [DEVICE")]
    pub operands: Vec<PathBuf>,
    /// Check only: exit with 0 if there is a dump, 1 if not
    #[arg(short = 'C', long, conflicts_with_all = ["clear", "force", "keep", "max", "codec", "uncompress", "encrypt", "json"])]
    pub check: bool,
    /// Clear the dump without saving it
    #[arg(short = 'c', long, conflicts_with_all = ["keep", "max", "codec", "uncompress", "encrypt", "json"])]
    pub clear: bool,
    /// Save a cleared dump, or one with inconsistent headers
    #[arg(short, long)]
    pub force: bool,
    /// Keep the dump on the device
    #[arg(short, long)]
    pub keep: bool,
    /// Rotate numbers 0..N-1, replacing older dumps
    #[arg(short, long, value_name = "N")]
    pub max: Option<NonZeroU32>,
    /// Do not compress, as --none
    #[arg(help_heading = "Compression", short, long, conflicts_with = "codec")]
    pub uncompress: bool,
    /// The codec: zstd by default.
    #[command(flatten)]
    pub codec: CodecArgs,
    /// The encryption.
    #[command(flatten)]
    pub encryption: EncryptArgs,
    /// Print a JSON report of what was saved (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// The directory, and the named devices.
    pub(crate) fn split(&self) -> (&Path, &[PathBuf]) {
        match self.operands.split_first() {
            Some((directory, devices)) if !self.check && !self.clear => (directory, devices),
            _ => (Path::new("."), &self.operands),
        }
    }

    /// The devices and images: those that are named, or else those of the system.
    ///
    /// # Errors
    ///
    /// None is named, and the system is not FreeBSD.
    pub(crate) fn devices(&self) -> Result<Vec<PathBuf>, Failure> {
        devices::of(self.split().1)
    }

    /// Whether a device is changed.
    pub(crate) fn clears(&self) -> bool {
        !self.check && !self.keep
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let devices = args.devices()?;
    if args.check {
        return check(&devices, session);
    }
    if args.clear {
        return clear(&devices, session);
    }
    let directory = args.split().0;
    if !is_remote(directory) {
        require_directory(directory)?;
    }
    let codec = match args.uncompress {
        true => Some(Codec::None),
        false => args.codec.named(),
    };
    let target = output::target(
        &args.codec,
        ContainerArg::Sealed,
        codec.unwrap_or(Codec::Zstd),
        session,
    )?;
    let plan = Plan {
        encryption: keys::encryption(&args.encryption, &target)?,
        directory,
        target,
        level: args.codec.level,
        force: args.force,
        keep: args.keep,
        max: args.max,
        json: args.json,
    };
    if is_remote(directory) {
        object::check(&plan)?;
    }
    let mut saved = Vec::new();
    for device in &devices {
        if let Err(failure) = save_device(device, &plan, &mut saved, session) {
            let failure = failure.about(device);
            if session.ends_with(&failure) {
                return Err(failure);
            }
            session.fail(&failure);
        }
    }
    match args.json {
        true => report::print(&saved, session),
        false => Ok(()),
    }
}

/// Fails if `directory` is not one, before a device is opened.
fn require_directory(directory: &Path) -> Result<(), Failure> {
    match directory.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::could_not("not a directory")
            .about(directory)
            .next("use `livecore save DIR DEVICE`")),
        Err(e) => Err(Failure::from(e).about(directory)),
    }
}

/// Saves every dump on a device or in an image.
fn save_device(
    device: &Path,
    plan: &Plan<'_>,
    saved: &mut Vec<Saved>,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let places = place::find(device, !plan.keep, session)?;
    for place in &places {
        match dump::save(place, plan, session) {
            Ok(None) => {}
            Ok(Some(record)) => saved.push(record),
            Err(failure) => {
                let failure = failure.about(&place.name);
                if session.ends_with(&failure) {
                    return Err(failure);
                }
                place.log_error(&failure);
                session.fail(&failure);
            }
        }
    }
    Ok(())
}

/// Looks for the first dump whose headers are consistent. Exits with 0 or 1, as savecore(8) does.
fn check(devices: &[PathBuf], session: &mut Session<'_>) -> Result<(), Failure> {
    for device in devices {
        let places = match place::find(device, false, session) {
            Ok(places) => places,
            Err(failure) => {
                session.voice.warn(device, failure.id(), failure.what());
                continue;
            }
        };
        for place in places.iter().filter(|place| !place.dump.is_cleared) {
            if let Some(finding) = place.dump.findings.first() {
                session.voice.warn(&place.name, Id::Broken, finding);
                continue;
            }
            use std::io::Write as _;
            writeln!(session.out, "A dump exists on {}", place.name.display())?;
            return Ok(());
        }
    }
    session.note(Exit::COULD_NOT);
    session.voice.detail(Id::NoDumpOnDevice, "No dump exists");
    Ok(())
}

/// Clears the dumps of `devices`.
pub(crate) fn clear(devices: &[PathBuf], session: &mut Session<'_>) -> Result<(), Failure> {
    for device in devices {
        let cleared = place::find(device, true, session).and_then(|places| {
            for place in places.iter().filter(|place| !place.dump.is_cleared) {
                place.clear()?;
                let line = format_args!("{}: cleared", place.name.display());
                session.voice.say(Id::DeviceCleared, line);
            }
            Ok(())
        });
        if let Err(failure) = cleared {
            session.fail(&failure.about(device));
        }
    }
    Ok(())
}
