//! Verifies a file with its info file and its key file.

use std::path::Path;
use std::sync::Arc;

use livecore_compress::Progress;
use livecore_kernel::verifier::Keys;
use livecore_minidump::encryption::{KeyFile, PrivateKey};
use livecore_verify::{Depth, OneTimeKeys, Options, Report, Verdict};

use crate::companion;
use crate::crash_directory;
use crate::failure::Failure;
use crate::input::{self, Source};
use crate::session::Session;

/// An open dump with the text of its info file.
pub(crate) struct Subject {
    name: String,
    /// The open file or device.
    pub(crate) source: Source,
    info: Option<String>,
    key_file: Option<KeyFile>,
    /// The private key.
    key: Option<Arc<PrivateKey>>,
}

impl Subject {
    /// Opens the dump `path`; `-` is standard input.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub(crate) fn open(path: &Path, session: &mut Session<'_>) -> Result<Self, Failure> {
        let source = input::source(path, session)?;
        Ok(Self {
            name: path.display().to_string(),
            info: match source.pack() {
                Some(pack) => pack.info(),
                None => companion::info(path, &session.stores),
            },
            source,
            key_file: companion::key_file(path, &session.stores).ok().flatten(),
            key: session.env.key.clone(),
        })
    }

    /// Compares the members of a pack with its manifest: all, or all but the dump with [`Depth::Quick`].
    ///
    /// # Errors
    ///
    /// A member differs, or the pack cannot be read.
    pub(crate) fn check_pack(&self, depth: Depth, progress: &dyn Progress) -> Result<(), Failure> {
        let Some(pack) = self.source.pack() else {
            return Ok(());
        };
        pack.check(depth != Depth::Quick, progress)
            .map_err(|e| Failure::from(e).about(self.name.as_ref()))
    }

    /// Verifies the dump with `options`, completed by its name, its info file and its keys.
    pub(crate) fn verify(self, options: Options<'_>, progress: &dyn Progress) -> Report {
        let keys = self.key.map(Keys);
        let options = options
            .name(self.name)
            .info(self.info.as_deref())
            .keys(keys.as_ref().map(|keys| keys as &dyn OneTimeKeys))
            .key_file(self.key_file.as_ref().map(|file| &file.bytes[..]));
        let report = livecore_verify::verify(self.source.into(), &options, progress);
        let path = Path::new(&options.name);
        if !matches!(report.verdict, Verdict::NotADump(_)) {
            return report;
        }
        let has_key_file = self.key_file.is_some();
        let compressed = self.key_file.is_some_and(|key| key.certain && key.gzip);
        let lacking = crash_directory::lacks_key_file(path);
        let why = match lacking.filter(|_| !has_key_file) {
            Some(key) => format!("encrypted dump without its key file {key}"),
            None if compressed => {
                "encrypted dump that savecore(8) compressed; decompress it with gunzip(1)"
                    .to_owned()
            }
            None => return report,
        };
        Report {
            verdict: Verdict::NotADump(why),
            ..report
        }
    }
}
