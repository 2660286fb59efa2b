//! Finds dumps on a device, in the image of a dump device, and in the partitions of a disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::{ReadAt, Window};
use livecore_defs::foreign::{Foreign, HEAD};
use livecore_livedump::disk::Disk;
use livecore_livedump::sys::syslog::{self, Severity};
use livecore_minidump::dump_device::DumpDevice;
use livecore_minidump::partitions::partitions;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::session::Session;

/// Sector sizes of an image, which does not state its own.
const SECTORS: [u64; 2] = [512, 4096];

/// A dump and its place on a disk.
pub(crate) struct Place {
    disk: Arc<Disk>,
    /// The device or the image, with the partition.
    pub name: PathBuf,
    /// Offset of the partition in the disk.
    pub start: u64,
    /// The partition's name; `None` if the dump is at the end of the device or the image.
    pub partition: Option<String>,
    /// The partition.
    pub region: Arc<dyn ReadAt>,
    /// The dump.
    pub dump: DumpDevice,
}

/// Finds the dumps of `path`, and also the cleared ones. Prints that there is none.
pub(crate) fn find(
    path: &Path,
    writable: bool,
    session: &Session<'_>,
) -> Result<Vec<Place>, Failure> {
    let opened = Disk::open(path, writable);
    let disk = Arc::new(opened.map_err(|e| {
        let kind = e.kind();
        let failure = Failure::from(e).about(path);
        match kind {
            ErrorKind::Unsupported => failure.with_exit(Exit::UNSUPPORTED).id_is(Id::Unsupported),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem if writable => {
                failure.next("use -k to save the dump without clearing it")
            }
            _ => failure,
        }
    })?);
    if let Some(failure) = other_format(&disk)? {
        return Err(failure.about(path));
    }
    let device: Arc<dyn ReadAt> = Arc::clone(&disk) as Arc<dyn ReadAt>;
    let mut found = Vec::new();
    if let Some(dump) = DumpDevice::find(&device, disk.sector())? {
        found.push(Place {
            disk,
            name: path.into(),
            start: 0,
            partition: None,
            region: device,
            dump,
        });
        return Ok(found);
    }
    let sectors = disk
        .sector()
        .map_or(SECTORS.to_vec(), |sector| vec![sector]);
    for sector in sectors {
        for partition in partitions(&*device, sector)? {
            let window = Window::new(Arc::clone(&device), partition.start, partition.len);
            let region: Arc<dyn ReadAt> = Arc::new(window);
            let Some(dump) = DumpDevice::find(&region, Some(sector))? else {
                continue;
            };
            let end = |place: &Place| place.start + place.dump.at;
            // A slice can end where its last partition ends.
            if found
                .iter()
                .any(|place| end(place) == partition.start + dump.at)
            {
                continue;
            }
            found.push(Place {
                disk: Arc::clone(&disk),
                name: format!("{} ({})", path.display(), partition.name).into(),
                start: partition.start,
                partition: Some(partition.name),
                region,
                dump,
            });
        }
    }
    if found.is_empty() {
        let line = format_args!(
            "{}: no dump found in the last sector or in a partition",
            path.display()
        );
        session.voice.say(Id::NoDumpOnDevice, line);
    }
    Ok(found)
}

/// The failure for an image whose format is not raw.
fn other_format(disk: &Disk) -> Result<Option<Failure>, Failure> {
    let mut head = [0; HEAD];
    let got = disk.read_full_at(&mut head, 0)?;
    let foreign = Foreign::of(&head[..got]).filter(|foreign| foreign.is_disk_image());
    Ok(foreign.map(|foreign| {
        let next = "use `qemu-img convert -O raw FILE OUT` and save from OUT";
        Failure::new(Exit::UNSUPPORTED, foreign.what).next(next)
    }))
}

impl Place {
    /// Clears the dump as savecore(8) does: replaces the magic in the last sector. The disk is synced.
    ///
    /// # Errors
    ///
    /// The disk cannot be written, or the header is not the one that was read before.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        let sector = self.region.size()?.saturating_sub(self.dump.at);
        let at = self.start.saturating_add(self.dump.at);
        let (old, new) = (&self.dump.block, &self.dump.cleared());
        let failed = |failure: Failure| {
            let what = format!("cannot clear the dump: {}", failure.what());
            failure.what_is(&what)
        };
        match self.disk.rewrite(at, sector, old, new) {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed(Failure::could_not(
                "the header has changed since livecore read it",
            ))),
            Err(e) => Err(failed(e.into())),
        }
    }

    /// Writes `line` to the system's log, if the dump is on a device: an image is of another system.
    pub(super) fn log(&self, severity: Severity, line: &str) {
        if self.disk.is_device() {
            syslog::log(severity, line);
        }
    }

    pub(super) fn log_error(&self, failure: &Failure) {
        self.log(Severity::Error, &failure.to_string());
    }
}
