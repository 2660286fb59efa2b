//! The devices on which dumps are searched.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use livecore_livedump::disk::dump_devices;
use livecore_livedump::sys::disk::has_dumpdev;

use crate::failure::Failure;
use crate::id::Id;

/// The device that dumpon(8) configured.
const DUMPDEV: &str = "/dev/dumpdev";

/// The `named` devices and images, or else those of the system.
///
/// # Errors
///
/// None is named, and the system is not FreeBSD; `/etc/fstab` cannot be read.
pub(super) fn of(named: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    if !named.is_empty() {
        return Ok(named.iter().map(|name| of_name(name)).collect());
    }
    if !has_dumpdev() {
        let what = "no device given, and this system is not FreeBSD";
        let failure = Failure::usage(what).id_is(Id::MissingArgument);
        return Err(failure.next("use `livecore save DIR DEVICE`; DEVICE can be an image"));
    }
    let fstab = Path::new("/etc/fstab");
    let text = match fs::read_to_string(fstab) {
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        text => text.map_err(|e| Failure::from(e).about(fstab))?,
    };
    let mut all: Vec<PathBuf> = Vec::new();
    for device in [PathBuf::from(DUMPDEV)]
        .into_iter()
        .chain(dump_devices(&text))
    {
        // A link, or an entry of fstab, can name a device that does not exist.
        if let Ok(real) = device.canonicalize()
            && !all.contains(&real)
        {
            all.push(real);
        }
    }
    Ok(all)
}

/// `name`, or the device of that name in /dev, as savecore(8) finds it.
fn of_name(name: &Path) -> PathBuf {
    let is_bare = name.components().count() == 1 && name.file_name().is_some();
    let device = Path::new("/dev").join(name);
    match is_bare && !name.exists() && device.exists() {
        true => device,
        false => name.to_owned(),
    }
}
