//! Unpacks the kernel and the modules of a pack for programs that need files.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_livedump::publish::PrivateDirectory;
use livecore_minidump::pack::{KERNEL, Kind, Pack};

use crate::failure::Failure;
use crate::guard;
use crate::input::KernelArgs;
use crate::remote::is_remote;
use crate::session::Session;

/// Unpacks the files of the pack `dump` to a private directory that is removed with the result, and
/// returns arguments that name the kernel in it. `None` if `dump` is not a pack with a kernel, or
/// `kernel` names another one.
///
/// # Errors
///
/// The pack cannot be read, a file differs from the manifest, or the directory cannot be written.
pub(crate) fn kernel_files(
    dump: &Path,
    kernel: &KernelArgs,
    session: &Session<'_>,
) -> Result<Option<(PrivateDirectory, KernelArgs)>, Failure> {
    let is_remote = is_remote(dump);
    if kernel.named(&session.env).is_some() || !is_remote && !dump.is_file() {
        return Ok(None);
    }
    let about = |failure: Failure| failure.about(dump);
    let file: Arc<dyn ReadAt> = match is_remote {
        true => session.stores.open(dump)?,
        false => Arc::new(File::open(dump).map_err(|e| about(e.into()))?),
    };
    let pack = Pack::from_source(file, &session.stream_options(None));
    let pack = pack.map_err(|e| about(e.into()))?;
    let Some(pack) = pack.filter(|pack| pack.kernel().is_some()) else {
        return Ok(None);
    };
    let mut directory = PrivateDirectory::create(&session.env.spool_dir)?;
    directory.guard(&mut guard::command("kgdb-guard")?)?;
    for member in &pack.manifest().members {
        if matches!(member.kind, Kind::Dump | Kind::Info) {
            continue;
        }
        let Some(contents) = pack.member(&member.name) else {
            continue;
        };
        // The names of members stay below the directory.
        let to = directory.path().join(&member.name);
        if let Some(parent) = to.parent() {
            let mut builder = fs::DirBuilder::new();
            let created = builder.recursive(true).mode(0o700).create(parent);
            created.map_err(|e| Failure::from(e).about(parent))?;
        }
        copy(&*contents, &to).map_err(about)?;
    }
    let kernel = KernelArgs {
        kernel: Some(directory.path().join(KERNEL)),
        ..kernel.clone()
    };
    Ok(Some((directory, kernel)))
}

fn copy(from: &dyn ReadAt, to: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::from(e).about(to);
    let mut options = OpenOptions::new();
    let created = options.write(true).create_new(true).mode(0o600).open(to);
    let mut file = created.map_err(failed)?;
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        match from.read_full_at(&mut piece, at)? {
            0 => return Ok(()),
            got => {
                file.write_all(&piece[..got]).map_err(failed)?;
                at += got as u64;
            }
        }
    }
}
