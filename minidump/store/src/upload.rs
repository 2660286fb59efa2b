//! An object that is written in parts.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::sync::Mutex;

use crate::Error;
use crate::client::{Client, Place};

/// The size of the first part, in bytes. S3 requires 5 MiB.
const PART: u64 = 8 << 20;

/// The number of parts of an object whose size is known. S3 permits 10,000.
const PARTS: u64 = 8000;

/// If the size is unknown, it doubles after this number of parts.
const DOUBLES: u64 = 2000;

/// The largest number of parts.
const MOST_PARTS: u64 = 10_000;

/// The parts that are sent at a time.
const TOGETHER: usize = 2;

/// How often a waiting thread checks whether to stop.
const CHECK: Duration = Duration::from_millis(100);

/// How long to wait for the removal of the parts.
const ABORT: Duration = Duration::from_secs(10);

/// The upload of a server.
type Parts = Arc<Mutex<Box<dyn MultipartUpload>>>;

/// An object that is being written. It exists after [`Upload::complete`]; dropping it before removes its parts.
pub struct Upload {
    client: Client,
    place: Place,
    force: bool,
    /// `None` until the first part is full, and after the end.
    parts: Option<Parts>,
    sent: VecDeque<Receiver<Result<(), Error>>>,
    buffer: Vec<u8>,
    part_size: u64,
    is_size_known: bool,
    count: u64,
    written: u64,
    failed: Option<Error>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("path", &self.place.1)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl Upload {
    pub(crate) fn new(
        client: Client,
        place: Place,
        len: Option<u64>,
        force: bool,
    ) -> Result<Self, Error> {
        let upload = Self {
            client,
            place,
            force,
            parts: None,
            sent: VecDeque::new(),
            buffer: Vec::new(),
            part_size: part_size(len),
            is_size_known: len.is_some(),
            count: 0,
            written: 0,
            failed: None,
        };
        upload.check_absent()?;
        Ok(upload)
    }

    /// Fails if the object exists and must not be replaced.
    fn check_absent(&self) -> Result<(), Error> {
        if self.force {
            return Ok(());
        }
        match self.head()? {
            None => Ok(()),
            Some(_) => Err(Error::Exists),
        }
    }

    /// The size of the object; `None` if it does not exist.
    fn head(&self) -> Result<Option<u64>, Error> {
        let (store, path) = self.place.clone();
        let head = self.client.wait(async move { store.head(&path).await })?;
        match head {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(Error::of("look for the object", &e)),
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The error of a write, which [`Write`] returned inside of an [`io::Error`].
    pub fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    /// Completes the object, and checks that the server has all its bytes. Returns the size.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if another writer has created the object meanwhile and it must not be replaced. The parts
    /// are removed after any error.
    pub fn complete(mut self) -> Result<u64, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.parts.is_some() {
            false => self.put()?,
            true => {
                if !self.buffer.is_empty() {
                    self.send()?;
                }
                while !self.sent.is_empty() {
                    self.wait_for_part()?;
                }
                // S3 has no condition for this request that all servers know.
                self.check_absent()?;
                if let Some(parts) = self.parts.clone() {
                    let work = async move { parts.lock().await.complete().await };
                    let done = self.client.wait(work)?;
                    done.map_err(|e| Error::of("complete the upload", &e))?;
                    self.parts = None;
                }
            }
        }
        match self.head()? {
            Some(size) if size == self.written => Ok(size),
            found => Err(Error::Failed {
                doing: "check the uploaded object".into(),
                why: format!(
                    "found {} bytes, expected {}",
                    found.unwrap_or(0),
                    self.written
                ),
            }),
        }
    }

    /// Writes a small object in one request, which fails if the object exists.
    fn put(&mut self) -> Result<(), Error> {
        let (store, path) = self.place.clone();
        let payload = PutPayload::from(std::mem::take(&mut self.buffer));
        let options = PutOptions::from(match self.force {
            true => PutMode::Overwrite,
            false => PutMode::Create,
        });
        let put = async move { store.put_opts(&path, payload, options).await };
        let done = self.client.wait(put)?;
        done.map(drop).map_err(|e| Error::of("write", &e))
    }

    /// Sends the buffer as a part. Waits while too many are under way.
    fn send(&mut self) -> Result<(), Error> {
        while self.sent.len() >= TOGETHER {
            self.wait_for_part()?;
        }
        if self.count == MOST_PARTS {
            return Err(Error::Failed {
                doing: "send a part".into(),
                why: format!("the object has more than {MOST_PARTS} parts"),
            });
        }
        let parts = match &self.parts {
            Some(parts) => Arc::clone(parts),
            None => {
                let (store, path) = self.place.clone();
                let begin = async move { store.put_multipart(&path).await };
                let begun = self.client.wait(begin)?;
                let begun = begun.map_err(|e| Error::of("begin the upload", &e))?;
                Arc::clone(self.parts.insert(Arc::new(Mutex::new(begun))))
            }
        };
        let payload = PutPayload::from(Bytes::from(std::mem::take(&mut self.buffer)));
        self.count += 1;
        let doing = format!("send part {}", self.count);
        // The number of the part is assigned here, in order.
        let part = {
            let parts = Arc::clone(&parts);
            self.client
                .wait(async move { (parts.lock().await.put_part(payload),) })?
                .0
        };
        let (done, result) = mpsc::sync_channel(1);
        self.client.spawn(async move {
            let sent = part.await.map_err(|e| Error::of(&doing, &e));
            // The receiver is gone if the upload was dropped.
            let _ = done.send(sent);
        });
        self.sent.push_back(result);
        if !self.is_size_known && self.count.is_multiple_of(DOUBLES) {
            self.part_size *= 2;
        }
        Ok(())
    }

    /// Waits for the oldest part under way.
    fn wait_for_part(&mut self) -> Result<(), Error> {
        let Some(oldest) = self.sent.pop_front() else {
            return Ok(());
        };
        loop {
            match oldest.recv_timeout(CHECK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if self.client.stops() => {
                    return Err(Error::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Failed {
                        doing: "send a part".into(),
                        why: "it ended without an answer".into(),
                    });
                }
            }
        }
    }
}

/// The size of the parts of an object of `len` bytes: whole MiB.
fn part_size(len: Option<u64>) -> u64 {
    let least = len.unwrap_or(0) / PARTS;
    PART.max(least.div_ceil(1 << 20) << 20)
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        // The server keeps a part that arrives after the upload was removed.
        let sent = std::mem::take(&mut self.sent);
        for part in sent {
            let _ = part.recv_timeout(ABORT);
        }
        self.client.wait_to_clean_up(ABORT, async move {
            // What remains is for the server's lifecycle rules (docs/stores.md).
            let _ = parts.lock().await.abort().await;
        });
    }
}

impl Write for Upload {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        let left = self.part_size - self.buffer.len() as u64;
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        self.buffer.extend_from_slice(&buf[..n]);
        self.written += n as u64;
        if self.buffer.len() as u64 == self.part_size
            && let Err(error) = self.send()
        {
            self.failed = Some(error.clone());
            return Err(error.into());
        }
        Ok(n)
    }

    /// Has no effect: a part has a minimum size.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_the_limits_of_s3() {
        for len in [0, 1, 1 << 30, 1 << 40, 5 << 40] {
            let size = part_size(Some(len));
            assert!(size >= 5 << 20 && len.div_ceil(size) <= MOST_PARTS, "{len}");
        }
        let mut unknown = 0;
        for part in 0..MOST_PARTS {
            unknown += PART << (part / DOUBLES);
        }
        assert!(unknown > 480 << 30);
    }
}
