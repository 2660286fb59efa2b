//! A single stream, and a file with its restart points in a cache. Fuzz targets and their seeds use
//! this file too.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use livecore_compress::{Error, OpenOptions, RestartCache, Stream};

/// A stream, and a file with its restart points.
pub(crate) struct Kept {
    stream: PathBuf,
    file: PathBuf,
    content: Vec<u8>,
    options: OpenOptions,
    good: Vec<u8>,
}

impl Kept {
    /// Writes the stream `stored` to `dir`, and the restart points of its content to a cache there.
    /// The file with the restart points is the same for equal streams.
    pub(crate) fn new(dir: &Path, stored: &[u8], content: Vec<u8>) -> Self {
        let (stream, cache) = (dir.join("stream"), dir.join("cache"));
        fs::create_dir_all(dir).expect("a directory");
        let _ = fs::remove_dir_all(&cache);
        let mut out = File::create(&stream).expect("a file");
        out.write_all(stored).expect("a stream is written");
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        out.set_modified(time).expect("a time");
        let options = OpenOptions::new()
            .memory(16 << 20)
            .threads(NonZeroUsize::MIN)
            .spool_dir(dir)
            .restart_cache(RestartCache {
                dir: cache.clone(),
                max_bytes: 64 << 20,
                min_content: 1 << 20,
            });
        let first = Stream::open(&stream, &options).expect("a stream");
        assert_eq!(first.readable().expect("content").0, content.len() as u64);
        let mut files = fs::read_dir(cache).expect("a cache");
        let file = files.next().expect("a file").expect("a file").path();
        let good = fs::read(&file).expect("restart points");
        Self {
            stream,
            file,
            content,
            options,
            good,
        }
    }

    /// The file with the restart points.
    pub(crate) fn good(&self) -> &[u8] {
        &self.good
    }

    /// Opens the stream with `bytes` as the file with its restart points. Asserts that reads return the
    /// content or an error that names the restart points. Returns whether the file was used.
    pub(crate) fn read(&self, bytes: &[u8], what: &str) -> bool {
        fs::write(&self.file, bytes).expect("a file is written");
        let mode = Permissions::from_mode(0o600);
        fs::set_permissions(&self.file, mode).expect("permissions are set");
        let stream = Stream::open(&self.stream, &self.options).expect("a stream opens");
        let used = stream.known_len().is_some();
        let source = stream.content();
        let mut buf = vec![0; 1 << 16];
        // Forward and backward: a read can continue at the end of another one, or cannot.
        let places = (0..self.content.len()).step_by(1 << 20);
        for at in places.clone().chain(places.rev().step_by(2)) {
            let expected = &self.content[at..];
            match source.read_full_at(&mut buf, at as u64) {
                // A file with right digests can state less content.
                Ok(n) => {
                    assert!(
                        buf[..n] == expected[..n],
                        "{what}: other content at {at:#x}"
                    );
                    assert!(
                        used || n == buf.len().min(expected.len()),
                        "{what}: {n} bytes"
                    );
                }
                Err(error) => {
                    assert!(used, "{what}: {error}");
                    let Some(Error::Broken { region, .. }) = Error::in_io(&error) else {
                        panic!("{what}: {error:?}");
                    };
                    assert_eq!(region, "content decoded from a restart point", "{what}");
                }
            }
        }
        used
    }
}
