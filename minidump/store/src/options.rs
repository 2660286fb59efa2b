//! How a client performs its requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A question whether the caller wants to stop.
pub(crate) type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// Options of a client.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// How long a server may be silent, and a connection may take.
    pub timeout: Duration,
    /// How often a request is repeated after its first try.
    pub retries: usize,
    /// Memory for the blocks of all objects, in bytes; at least 4 MiB are used.
    pub cache: u64,
    /// Asked several times a second while a thread waits; `true` ends the request.
    pub stop: Stop,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            retries: 5,
            cache: 64 << 20,
            stop: Arc::new(|| false),
        }
    }
}

impl Options {
    /// Sets [`Self::timeout`].
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Sets [`Self::retries`].
    #[must_use]
    pub fn retries(mut self, count: usize) -> Self {
        self.retries = count;
        self
    }

    /// Sets [`Self::cache`], in bytes.
    #[must_use]
    pub fn cache(mut self, bytes: u64) -> Self {
        self.cache = bytes;
        self
    }

    /// Sets [`Self::stop`].
    #[must_use]
    pub fn stop(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("timeout", &self.timeout)
            .field("retries", &self.retries)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
