//! A client: one thread that performs the requests of all others.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::cache::Cache;
use crate::location::is_loopback_url;
use crate::options::Options;
use crate::traffic::{Connector, Counters, Traffic};
use crate::{Error, Location};

/// How often a waiting thread checks whether to stop.
const CHECK: Duration = Duration::from_millis(100);

/// A client for objects. Clones share its thread and its memory.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    handle: Handle,
    /// Ends the thread when it is dropped.
    _end: oneshot::Sender<()>,
    options: Options,
    counters: Arc<Counters>,
    cache: Cache,
    objects: AtomicU32,
}

/// The server of an object, and the path there.
pub(crate) type Place = (Arc<dyn ObjectStore>, Path);

impl Client {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the system starts no thread or has no event queue.
    pub fn new(options: Options) -> Result<Self, Error> {
        let failed = |e: std::io::Error| Error::Failed {
            doing: "start the thread for requests".into(),
            why: e.to_string(),
        };
        // Another user of rustls in this process may have installed one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("store".into());
        let run = move || {
            let _ = runtime.block_on(ended);
            // A lookup of a host may still be under way.
            runtime.shutdown_background();
        };
        thread.spawn(run).map_err(failed)?;
        let cache = Cache::new(options.cache);
        Ok(Self(Arc::new(Inner {
            handle,
            _end: end,
            options,
            counters: Arc::default(),
            cache,
            objects: AtomicU32::new(0),
        })))
    }

    /// What this client has requested and received.
    pub fn traffic(&self) -> Traffic {
        self.0.counters.traffic()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.0.cache
    }

    pub(crate) fn next_object(&self) -> u32 {
        self.0.objects.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the caller wants to stop.
    pub(crate) fn stops(&self) -> bool {
        (self.0.options.stop)()
    }

    /// Starts `work` on the thread.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.handle.spawn(work));
    }

    /// Performs `work` on the thread, and waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`] if the caller wants to stop before it is done.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, result) = mpsc::sync_channel(1);
        let task = self.0.handle.spawn(async move {
            // The receiver is gone if the caller has stopped.
            let _ = done.send(work.await);
        });
        loop {
            match result.recv_timeout(CHECK) {
                Ok(value) => return Ok(value),
                Err(RecvTimeoutError::Timeout) if self.stops() => {
                    task.abort();
                    return Err(Error::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Failed {
                        doing: "request".into(),
                        why: "it ended without an answer".into(),
                    });
                }
            }
        }
    }

    /// Like [`Self::wait`], for at most `limit`, and although the caller wants to stop.
    pub(crate) fn wait_to_clean_up(
        &self,
        limit: Duration,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let (done, result) = mpsc::sync_channel(1);
        self.spawn(async move {
            work.await;
            let _ = done.send(());
        });
        let _ = result.recv_timeout(limit);
    }

    /// The server of an object.
    pub(crate) fn place(&self, location: &Location) -> Result<Place, Error> {
        let options = self.options();
        let client = ClientOptions::new()
            .with_connect_timeout(options.timeout)
            .with_read_timeout(options.timeout)
            // A server that sends a byte now and then is as bad as a silent one.
            .with_timeout(options.timeout.saturating_mul(10));
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: options.retries,
            retry_timeout: options.timeout.saturating_mul(10),
        };
        let connector = Connector(Arc::clone(&self.0.counters));
        let invalid = |e: object_store::Error| Error::Url(crate::error::reason(&e));
        Ok(match location {
            Location::S3 { bucket, key } => {
                let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
                    .into_iter()
                    .find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()));
                let is_local = endpoint.as_deref().is_some_and(is_loopback_url);
                let mut builder = AmazonS3Builder::from_env()
                    .with_client_options(client.with_allow_http(is_local))
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .with_bucket_name(bucket);
                if let Some(url) = endpoint {
                    builder = builder.with_endpoint(url);
                }
                let store = builder.build().map_err(invalid)?;
                let key = key.strip_suffix('/').unwrap_or(key);
                let path = Path::parse(key).map_err(|e| invalid(e.into()))?;
                (Arc::new(store), path)
            }
            Location::Http { url } => {
                let store = HttpBuilder::new()
                    .with_url(url)
                    .with_client_options(client.with_allow_http(is_loopback_url(url)))
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()
                    .map_err(invalid)?;
                // The URL is that of the object; a path would be added to it.
                (Arc::new(store), Path::default())
            }
        })
    }
}
