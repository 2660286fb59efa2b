//! `livecore man [DIR]`: prints or writes the manual pages.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Command;

use crate::failure::Failure;
use crate::man;
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore man > livecore.1
  livecore man /usr/local/share/man

The pages are in the language mdoc(7). DIR gets man1/livecore.1, a page for each verb (livecore-take(1)), and \
the pages of file formats: livecore-machine(5), livecore-sealed(5).";

/// Arguments of `livecore man`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Write all pages to man1 and man5 in DIR
    ///
    /// Creates DIR if needed. [default: print livecore(1) to standard output]
    pub dir: Option<PathBuf>,
}

/// Prints or writes the pages of `command`.
pub(crate) fn run(args: &Args, command: Command, session: &mut Session<'_>) -> Result<(), Failure> {
    let pages = man::pages(command);
    let Some(dir) = &args.dir else {
        let first = pages.first().map(|page| page.text.as_bytes());
        return Ok(session.out.write_all(first.unwrap_or_default())?);
    };
    for page in pages {
        let section = dir.join(format!("man{}", page.section));
        let path = section.join(format!("{}.{}", page.name, page.section));
        replace(&path, &section, page.text.as_bytes())
            .map_err(|e| Failure::from(e).about(&path))?;
    }
    Ok(())
}

/// Puts a complete file at `path` in `directory`. Replaces a symbolic link, and does not follow it.
fn replace(path: &Path, directory: &Path, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)?;
    file.write_all(text)?;
    file.persist(path)?;
    Ok(())
}
