//! Reads and writes objects with `livecore-store`.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use livecore_compress::ReadAt;
use livecore_minidump::info;
use livecore_store::{Client, Error, Location, Options};

use super::Listed;
use crate::env::Env;
use crate::failure::Failure;
use crate::id::Id;
use crate::interrupt::Interrupt;
use crate::text::Bytes;
use crate::variable::number;

/// The environment variable for the seconds that a server may be silent.
const TIMEOUT: &str = "LIVECORE_STORE_TIMEOUT";

/// The environment variable for the number of times that a request is repeated.
const RETRIES: &str = "LIVECORE_STORE_RETRIES";

/// Maximum size of an info file or a key file, in bytes.
const COMPANION: u64 = 64 << 10;

/// The object stores of a run. Clones share one client, which is started when it is needed: after the process has
/// entered the sandbox.
#[derive(Clone)]
pub(crate) struct Stores {
    memory: u64,
    interrupt: Interrupt,
    used: Arc<Mutex<Used>>,
}

#[derive(Default)]
struct Used {
    client: Option<Client>,
    /// The objects that were opened: their number, the size of all, and the first.
    opened: u64,
    size: u64,
    first: Option<PathBuf>,
    /// The last one: a verb that tries several kinds of dumps opens it more than once.
    last: Option<(PathBuf, Arc<dyn ReadAt>)>,
}

impl Stores {
    pub(crate) fn new(env: &Env) -> Self {
        Self {
            memory: env.memory,
            interrupt: env.interrupt.clone(),
            used: Arc::default(),
        }
    }

    fn client(&self) -> Result<Client, Failure> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &used.client {
            return Ok(client.clone());
        }
        let interrupt = self.interrupt.clone();
        let timeout = number(TIMEOUT, 30, 1..=3600)?;
        let retries = number(RETRIES, 5, 0..=20)?;
        let options = Options::default()
            .timeout(Duration::from_secs(timeout))
            .retries(usize::try_from(retries).unwrap_or(0))
            .cache((self.memory / 8).min(64 << 20))
            .stop(Arc::new(move || interrupt.raised().is_some()));
        let client = Client::new(options).map_err(|e| Failure::from(io::Error::from(e)))?;
        Ok(used.client.insert(client).clone())
    }

    /// Opens an object.
    pub(crate) fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>, Failure> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, object)) = used.last.as_ref().filter(|(last, _)| last == path) {
            return Ok(Arc::clone(object));
        }
        drop(used);
        let object = self
            .client()?
            .open(&location(path)?)
            .map_err(|e| failure(e, path))?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.opened += 1;
        used.size = used.size.saturating_add(object.size().unwrap_or(0));
        used.first.get_or_insert_with(|| path.to_owned());
        let object: Arc<dyn ReadAt> = Arc::new(object);
        used.last = Some((path.to_owned(), Arc::clone(&object)));
        Ok(object)
    }

    /// Reads the object `info.N` or `key.N` of the dump `path`: `stem` is `info` or `key`. `None` if there is none, or if
    /// `path` is not in a bucket.
    pub(crate) fn companion(
        &self,
        path: &Path,
        stem: &str,
    ) -> Result<Option<(PathBuf, Vec<u8>)>, Failure> {
        let name = path.file_name().and_then(|name| name.to_str());
        let is_s3 = matches!(location(path)?, Location::S3 { .. });
        let Some(number) = name.and_then(info::number).filter(|_| is_s3) else {
            return Ok(None);
        };
        let path = path.with_file_name(format!("{stem}.{number}"));
        let object = match self.client()?.open(&location(&path)?) {
            // Without the right to list a bucket, a missing object is denied.
            Err(Error::NotFound | Error::Denied(_)) => return Ok(None),
            opened => opened.map_err(|e| failure(e, &path))?,
        };
        let size = object.size().map_err(|e| Failure::from(e).about(&path))?;
        let mut bytes = vec![0; size.min(COMPANION) as usize]; // at most 64 KiB
        let got = object.read_full_at(&mut bytes, 0);
        bytes.truncate(got.map_err(|e| Failure::from(e).about(&path))?);
        Ok(Some((path, bytes)))
    }

    /// Lists the objects below a prefix.
    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let invalid = |failure: Failure| io::Error::other(failure.what().to_owned());
        let client = self.client().map_err(invalid)?;
        let listed = client.list(&location(path).map_err(invalid)?)?;
        Ok(listed
            .into_iter()
            .map(|object| Listed {
                path: object.url.into(),
                modified: object.modified,
            })
            .collect())
    }

    /// Begins an object of `len` bytes, if that is known.
    pub(crate) fn create(
        &self,
        path: &Path,
        len: Option<u64>,
        force: bool,
    ) -> Result<Upload, Failure> {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last = None;
        let inner = self.client()?.create(&location(path)?, len, force);
        Ok(Upload {
            inner: inner.map_err(|e| failure(e, path))?,
            path: path.to_owned(),
        })
    }

    /// A line with the bytes that were received, if an object was opened.
    pub(crate) fn summary(&self) -> Option<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let traffic = used.client.as_ref()?.traffic();
        let first = used.first.as_ref()?;
        let mut line = match used.opened {
            1 => format!("{}: ", first.display()),
            opened => format!("{opened} objects: "),
        };
        let share = traffic.received as f64 * 100.0 / used.size.max(1) as f64;
        let _ = write!(
            line,
            "received {} of {} ({share:.2} %) in {} requests",
            Bytes(traffic.received),
            Bytes(used.size),
            traffic.requests
        );
        Some(line)
    }
}

/// An object that is being written. It exists after [`Upload::complete`].
pub(crate) struct Upload {
    inner: livecore_store::Upload,
    path: PathBuf,
}

impl Upload {
    /// The failure of a write.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let error = self.inner.failure()?;
        Some(failure(error.clone(), &self.path))
    }

    /// Completes the object.
    pub(crate) fn complete(self) -> Result<(), Failure> {
        let done = self.inner.complete().map(drop);
        done.map_err(|e| failure(e, &self.path))
    }

    /// Its URL.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for Upload {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn location(path: &Path) -> Result<Location, Failure> {
    // `is_remote` has found its scheme.
    let url = path.to_str().unwrap_or_default();
    Location::parse(url).map_err(|e| failure(e, path))
}

fn failure(error: Error, path: &Path) -> Failure {
    let failure = match &error {
        Error::Url(what) => return Failure::usage(what).id_is(Id::InvalidValue).about(path),
        Error::Denied(_) => Failure::from(io::Error::from(error))
            .next("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true"),
        Error::Exists => Failure::from(io::Error::from(error)).next("use --force to replace it"),
        _ => Failure::from(io::Error::from(error)),
    };
    failure.about(path)
}
