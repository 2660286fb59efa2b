//! The running kernel writes its own dump (FreeBSD's MEM_KERNELDUMP).
//!
//! The kernel writes a file without a name, uncompressed; what it has written is compressed by all
//! processors and sealed. With `--kernel-compress` the kernel's single stream is kept as it is.

use compress::Codec;
use livedump::mem4::{Access, FreeBsd};
use livedump::place::{self, Destination};
use livedump::take::live::{Estimate, kernel_compressed, live, spool_dir};
use minidump::Container;
use minidump::convert::{Target, Written, finish};

use super::{Args, DEVICE, failure, own_kernel};
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
    let device = FreeBsd::open(Access::READ).map_err(|e| failure(e.into(), DEVICE.as_ref()))?;
    session
        .voice
        .say("the kernel writes its dump, which cannot be interrupted; progress is an estimate");
    let bar = Bar::new(session, "kernel dump", args.json, None);
    let mut waiting = |estimate: Estimate| bar.reach(estimate.written, estimate.expected);
    if args.kernel_compress {
        let report = compressed(args, destination, target, &device, &bar, &mut waiting)?;
        drop(bar);
        return report.tell(args.json, session);
    }
    let threads = target.encoding.threads.get() as u64;
    // Every worker reads one frame, and none is more than a few ahead of the slowest.
    let kept = u64::from(target.encoding.frame_size) * (4 * threads + 4);
    let live = live(&device, &spool_dir(destination), kept, &mut waiting)
        .map_err(|e| failure(e, DEVICE.as_ref()))?;
    drop(bar);
    for note in &live.notes {
        session.voice.say(note);
    }
    let len = live.header().dumplength;
    let bar = Bar::new(session, "take", args.json, Some(len));
    let mut write = |out: &mut dyn std::io::Write, progress: &dyn compress::Progress| {
        finish(live.payload(), live.header().clone(), target, out, progress)
    };
    let written = output::write(
        destination,
        &args.place_options(target, len),
        target,
        DEVICE,
        &bar,
        session,
        &mut write,
    );
    drop(bar);
    written
        .map_err(|f| f.about(DEVICE.as_ref()))?
        .tell(args.json, session)
}

/// The kernel's own stream, straight into the file that is published.
fn compressed(
    args: &Args,
    destination: &Destination,
    target: &Target,
    device: &FreeBsd,
    bar: &Bar,
    waiting: &mut dyn FnMut(Estimate),
) -> Result<Report, Failure> {
    if target.container == Container::Sealed || target.encoding.codec == Codec::None {
        return Err(Failure::usage(
            "--kernel-compress writes one gzip or zstd stream: say -z or -Z, and --container saved or \
             raw",
        ));
    }
    let mut pending = destination.begin(&args.place_options(target, 0))?;
    let codec = target.encoding.codec;
    let header = kernel_compressed(device, &mut pending, codec, target.container, waiting)
        .map_err(|e| failure(e, DEVICE.as_ref()))?;
    let written = Written {
        payload_len: header.dumpextent,
        stored_len: header.dumplength,
        file_len: pending.written(),
        header,
    };
    let info = |n| place::info::text(&written.header, DEVICE, n).into_bytes();
    let published = pending.publish(&info)?;
    Ok(output::report(&written, published, target, bar))
}
