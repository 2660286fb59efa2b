//! The running kernel writes its own dump (FreeBSD's MEM_KERNELDUMP).
//!
//! The kernel writes a file without a name, uncompressed; what it has written is compressed by all
//! processors and sealed. With `--kernel-compress` the kernel's single stream is kept as it is.

use livecore_compress::Codec;
use livecore_livedump::mem4::{Access, FreeBsd};
use livecore_livedump::publish::{self, Destination, Pending};
use livecore_livedump::sys::mem_ioctl::MemIoctl;
use livecore_livedump::take::TakeError;
use livecore_livedump::take::live::{Estimate, kernel_compressed, live, spool_dir};
use livecore_minidump::Container;
use livecore_minidump::convert::{Target, Written, finish};

use super::{Args, DEVICE, own_kernel};
use crate::failure::Failure;
use crate::output::{self, Report};
use crate::progress::Bar;
use crate::session::Session;

/// Has the kernel write, and stores what it has written.
pub(super) fn run(
    args: &Args,
    destination: &Destination,
    target: &Target,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    if args.kernel.is_some() || args.format_version.is_some() {
        return Err(Failure::usage(
            "the running kernel dumps itself: --kernel and --format-version go with --walk, --image \
             or --machine",
        ));
    }
    // Asked for its answer elsewhere than on FreeBSD.
    own_kernel()?;
    let device = FreeBsd::open(Access::READ)
        .map_err(|e| Failure::from(TakeError::from(e)).about(DEVICE.as_ref()))?;
    dump(args, destination, target, &device, session)
}

/// Has the kernel behind `device` write. Whether the result has a place (a name that is free, a
/// directory that can be written, room) is known before the kernel is asked.
fn dump<K: MemIoctl>(
    args: &Args,
    destination: &Destination,
    target: &Target,
    device: &FreeBsd<K>,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    if args.kernel_compress
        && (target.container == Container::Sealed || target.encoding.codec == Codec::None)
    {
        return Err(Failure::usage(
            "--kernel-compress writes one gzip or zstd stream: say -z or -Z, and --container saved or \
             raw",
        ));
    }
    let pending = output::begin(destination, &args.place_options(target, 0))?;
    session
        .voice
        .say("the kernel writes its dump, which cannot be interrupted; progress is an estimate");
    let bar = session.bar("kernel dump", args.json, None);
    let mut waiting = |estimate: Estimate| bar.reach(estimate.written, estimate.expected);
    if args.kernel_compress {
        let report = compressed(pending, target, device, &bar, &mut waiting)?;
        drop(bar);
        return report.tell(args.json, session);
    }
    let threads = target.encoding.threads.get() as u64;
    // Every worker reads one frame, and none is more than a few ahead of the slowest.
    let kept = u64::from(target.encoding.frame_size) * (4 * threads + 4);
    let live = live(device, &spool_dir(destination), kept, &mut waiting)
        .map_err(|e| Failure::from(e).about(DEVICE.as_ref()))?;
    drop(bar);
    for note in &live.notes {
        session.voice.say(note);
    }
    let len = live.header().dumplength;
    let mut pending = pending;
    if let Some(pending) = &mut pending {
        pending.reserve(args.place_options(target, len).needed)?;
    }
    let bar = session.bar("take", args.json, Some(len));
    let mut write = |out: &mut dyn std::io::Write, progress: &dyn livecore_compress::Progress| {
        finish(live.payload(), live.header().clone(), target, out, progress)
    };
    let written = output::write_to(pending, target, DEVICE, &bar, session, &mut write);
    drop(bar);
    written
        .map_err(|f| f.about(DEVICE.as_ref()))?
        .tell(args.json, session)
}

/// The kernel's own stream, straight into the file that is published.
fn compressed<K: MemIoctl>(
    pending: Option<Pending>,
    target: &Target,
    device: &FreeBsd<K>,
    bar: &Bar,
    waiting: &mut dyn FnMut(Estimate),
) -> Result<Report, Failure> {
    let Some(mut pending) = pending else {
        return Err(Failure::usage("a kernel compresses into a file").next("name one with -o"));
    };
    let codec = target.encoding.codec;
    let header = kernel_compressed(device, &mut pending, codec, target.container, waiting)
        .map_err(|e| Failure::from(e).about(DEVICE.as_ref()))?;
    let written = Written {
        payload_len: header.dumpextent,
        stored_len: header.dumplength,
        file_len: pending.written(),
        header,
        provenance: livecore_minidump::Provenance::default(),
    };
    let info = |n| publish::info::text(&written.header, DEVICE, n).into_bytes();
    let published = pending.publish(&info)?;
    Ok(output::report(&written, published, target, bar.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use clap::Parser;
    use livecore_livedump::sys::mem_ioctl::Request;
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::path::Path;

    /// A kernel that is asked says that another dump is running.
    struct Busy;

    impl MemIoctl for Busy {
        fn issue(&self, _: BorrowedFd<'_>, _: Request<'_>) -> io::Result<()> {
            // EBUSY
            Err(io::Error::from_raw_os_error(16))
        }
    }

    /// The verb's own command line.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// Why a dump with `options` fails.
    fn take(options: &[&str]) -> String {
        let all = ["take"].iter().chain(options);
        let Line { args } = Line::try_parse_from(all).unwrap();
        let zero = Path::new("/dev/zero");
        let device = FreeBsd::open_at(zero, zero, Access::READ, Busy).unwrap();
        let destination = Destination::parse(&args.out);
        let container = args.container;
        let target = output::target(&args.codec, container, Codec::Zstd).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut session = Session::new(&mut out, &mut err, Env::detached(), true);
        let failure = dump(&args, &destination, &target, &device, &mut session);
        failure.unwrap_err().to_string()
    }

    #[test]
    fn a_destination_that_cannot_be_written_is_refused_before_the_kernel_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let here = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(here("there"), "x").unwrap();
        std::fs::create_dir(here("taken")).unwrap();
        std::fs::write(here("taken/vmcore.0"), "x").unwrap();
        std::fs::create_dir(here("full")).unwrap();
        std::fs::write(here("full/minfree"), format!("{}\n", u64::MAX / 2048)).unwrap();
        for (out, more, why) in [
            (here("there"), "-Z", "exists already"),
            (here("absent/"), "-Z", "No such file"),
            (here("absent/file"), "-Z", "No such file"),
            (here("taken/"), "-m1", "all taken"),
            (here("full/"), "-Z", "minfree"),
            // Nobody makes files there, not even root.
            ("/proc/self/".into(), "-Z", "/proc/self"),
        ] {
            for kernel in [
                &["--kernel-compress", "--container", "saved", "-Z"][..],
                &[],
            ] {
                let mut options = kernel.to_vec();
                if !options.contains(&more) {
                    options.push(more);
                }
                options.extend(["-o", &out]);
                let failure = take(&options);
                assert!(failure.contains(why), "{options:?}: {failure}");
            }
        }
        // And with a place for the dump it is asked.
        let failure = take(&["-o", &here("")]);
        assert!(failure.contains("another dump is running"), "{failure}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
