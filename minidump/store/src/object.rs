//! An object of a server, read by range requests.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use livecore_compress::ReadAt;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt};

use crate::cache::{BLOCK, Found};
use crate::client::{Client, Place};
use crate::error::reason;
use crate::{Error, Traffic};

/// Bytes of the first request.
const HEAD: u64 = 2 * BLOCK;

/// The number of blocks that a sequence first requests in advance; each request doubles it.
const FIRST_WINDOW: u64 = 8;

/// The number of reads after which blocks are requested in advance. A read that continues one other is usual in tables.
const STEPS: u32 = 3;

/// The number of sequences in an object that are noticed.
const SEQUENCES: usize = 8;

/// An object, which can be read from several threads.
pub struct Object {
    client: Client,
    source: Arc<Source>,
    number: u32,
    sequences: Mutex<Vec<Sequence>>,
    /// The error of a request, which all later reads return too.
    failed: Mutex<Option<Error>>,
}

/// What a request needs to know.
struct Source {
    place: Place,
    size: u64,
    modified: SystemTime,
    /// The entity tag of the first answer.
    tag: Option<String>,
    retries: usize,
}

/// Reads that continue each other.
#[derive(Debug)]
struct Sequence {
    /// The block after the last read.
    next: u64,
    /// The block after the last one that was requested in advance; 0 if there is none.
    requested: u64,
    /// The number of reads that continued it.
    steps: u32,
    /// The number of blocks to request in advance.
    window: u64,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("path", &self.source.place.1)
            .field("size", &self.source.size)
            .finish_non_exhaustive()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.client.cache().forget(self.number);
    }
}

impl Object {
    pub(crate) fn open(client: Client, place: Place) -> Result<Self, Error> {
        let retries = client.options().retries;
        let first = {
            let (store, path) = place.clone();
            client.wait(async move {
                repeated(retries, || async {
                    let options = GetOptions {
                        range: Some(GetRange::Bounded(0..HEAD)),
                        ..GetOptions::default()
                    };
                    let answer = store.get_opts(&path, options).await;
                    let answer = answer.map_err(|e| (false, Error::of("open", &e)))?;
                    let (meta, range) = (answer.meta.clone(), answer.range.clone());
                    let bytes = body(answer.into_stream(), &range).await?;
                    Ok((meta, bytes))
                })
                .await
            })?
        };
        let (meta, bytes) = match first {
            Ok((meta, bytes)) => (meta, bytes),
            Err(error) => match empty(&client, &place, &error) {
                Some(meta) => (meta, Vec::new()),
                None => return Err(error),
            },
        };
        if bytes.len() as u64 != HEAD.min(meta.size) {
            return Err(short(&(0..HEAD.min(meta.size)), bytes.len() as u64));
        }
        let object = Self {
            number: client.next_object(),
            source: Arc::new(Source {
                place,
                size: meta.size,
                modified: meta.last_modified.into(),
                tag: meta.e_tag,
                retries,
            }),
            client,
            sequences: Mutex::default(),
            failed: Mutex::default(),
        };
        let blocks = 0..meta.size.min(HEAD).div_ceil(BLOCK);
        let cache = object.client.cache();
        cache.arrived(
            object.number,
            cache.request(object.number, blocks),
            Some(&bytes),
        );
        Ok(object)
    }

    /// What the client of this object has requested and received.
    pub fn traffic(&self) -> Traffic {
        self.client.traffic()
    }

    /// Returns the bytes of a block.
    fn block(&self, block: u64, wanted: Range<u64>) -> Result<bytes::Bytes, Error> {
        let cache = self.client.cache();
        loop {
            match cache.find(self.number, block) {
                Found::Here(bytes) => return Ok(bytes),
                Found::Requested => {
                    cache.wait();
                    if self.client.stops() {
                        return Err(Error::Cancelled);
                    }
                }
                Found::Missing => {
                    let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(error) = &*failed {
                        return Err(error.clone());
                    }
                    drop(failed);
                    let end = wanted.end.min(block + cache.most_blocks());
                    let blocks = cache.request(self.number, block..end.max(block + 1));
                    if !blocks.is_empty() {
                        self.client.wait(self.fetch(blocks))?.map_err(|error| {
                            let mut failed =
                                self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                            failed.get_or_insert(error).clone()
                        })?;
                    }
                }
            }
        }
    }

    /// Requests blocks that were marked as requested, and stores them.
    fn fetch(
        &self,
        blocks: Range<u64>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let source = Arc::clone(&self.source);
        let mut marked = Marked {
            client: self.client.clone(),
            object: self.number,
            blocks: Some(blocks.clone()),
        };
        async move {
            let bytes = source.get(&blocks).await?;
            marked.blocks = None;
            let cache = marked.client.cache();
            cache.arrived(marked.object, blocks, Some(&bytes));
            Ok(())
        }
    }

    /// Requests what follows, if the reads are sequential.
    fn read_ahead(&self, blocks: &Range<u64>) {
        let mut sequences = self
            .sequences
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = sequences
            .iter()
            .position(|sequence| sequence.continues(blocks));
        let Some(found) = found else {
            sequences.truncate(SEQUENCES - 1);
            sequences.insert(0, Sequence::starting(blocks));
            return;
        };
        // The sequence that was not continued for the longest time is the last.
        sequences[..=found].rotate_right(1);
        let sequence = &mut sequences[0];
        // A read of the same block is no step.
        sequence.steps += u32::from(blocks.end > sequence.next);
        sequence.next = sequence.next.max(blocks.end);
        let ahead = sequence.requested.saturating_sub(sequence.next);
        let last = self.source.size.div_ceil(BLOCK);
        if sequence.steps < STEPS || ahead > sequence.window / 2 || sequence.requested >= last {
            return;
        }
        let cache = self.client.cache();
        let start = sequence.requested.max(sequence.next);
        let end = last.min(start + sequence.window);
        let wanted = cache.request(self.number, start..end);
        sequence.requested = end;
        sequence.window = (sequence.window * 2).min(cache.most_blocks());
        drop(sequences);
        if !wanted.is_empty() {
            let fetch = self.fetch(wanted);
            // The read that needs the blocks repeats a failed request, and reports its error.
            self.client.spawn(async { drop(fetch.await) });
        }
    }
}

impl Sequence {
    fn starting(blocks: &Range<u64>) -> Self {
        Self {
            next: blocks.end,
            requested: 0,
            steps: 0,
            window: FIRST_WINDOW,
        }
    }

    /// Whether a read of `blocks` continues the sequence. Several threads read the parts of one in almost the right
    /// order.
    fn continues(&self, blocks: &Range<u64>) -> bool {
        let is_next = blocks.start + 1 >= self.next && blocks.start <= self.next;
        let is_requested = self.requested > 0
            && blocks.start < self.requested
            && blocks.start + self.window >= self.next;
        is_next || is_requested
    }
}

/// Blocks that are marked as requested until they arrive; missing again if this is dropped before.
struct Marked {
    client: Client,
    object: u32,
    blocks: Option<Range<u64>>,
}

impl Drop for Marked {
    fn drop(&mut self) {
        if let Some(blocks) = self.blocks.take() {
            self.client.cache().arrived(self.object, blocks, None);
        }
    }
}

impl Source {
    /// The bytes of `blocks`.
    async fn get(&self, blocks: &Range<u64>) -> Result<Vec<u8>, Error> {
        // The blocks are inside of the object, whose size fits.
        let range = blocks.start * BLOCK..(blocks.end * BLOCK).min(self.size);
        repeated(self.retries, || self.try_get(&range)).await
    }

    /// The bytes of `range`. An error says whether to try again.
    async fn try_get(&self, range: &Range<u64>) -> Result<Vec<u8>, (bool, Error)> {
        let (store, path) = &self.place;
        let strong = self.tag.clone().filter(|tag| !tag.starts_with("W/"));
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: strong,
            ..GetOptions::default()
        };
        let changed = |found: String, expected: String| (false, Error::Changed { found, expected });
        let tag = || self.tag.clone().unwrap_or_default();
        let answer = store.get_opts(path, options).await.map_err(|e| match e {
            object_store::Error::Precondition { .. } => changed("another entity tag".into(), tag()),
            _ if reason(&e).starts_with("Requested") => {
                let what = reason(&e);
                (
                    false,
                    Error::Answer {
                        range: range.clone(),
                        what,
                    },
                )
            }
            _ => {
                let doing = format!("read {:#x} to {:#x}", range.start, range.end);
                (false, Error::of(&doing, &e))
            }
        })?;
        let meta = &answer.meta;
        if meta.e_tag != self.tag {
            let found = meta.e_tag.clone().unwrap_or_else(|| "no entity tag".into());
            return Err(changed(clean(&found), clean(&tag())));
        }
        if meta.size != self.size {
            return Err(changed(
                format!("{} bytes", meta.size),
                format!("{} bytes", self.size),
            ));
        }
        if self.tag.is_none() && SystemTime::from(meta.last_modified) != self.modified {
            return Err(changed(
                "another time of modification".into(),
                "the first one".into(),
            ));
        }
        body(answer.into_stream(), range).await
    }
}

/// Collects exactly the bytes of `range`. An error says whether to try again.
async fn body(
    mut stream: futures_util::stream::BoxStream<'static, object_store::Result<bytes::Bytes>>,
    range: &Range<u64>,
) -> Result<Vec<u8>, (bool, Error)> {
    let len = range.end - range.start;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        let doing = format!("read {:#x} to {:#x}", range.start, range.end);
        let piece = piece.map_err(|e| (true, Error::of(&doing, &e)))?;
        if (bytes.len() + piece.len()) as u64 > len {
            let what = format!("found more than {len} bytes, expected {len}");
            return Err((
                false,
                Error::Answer {
                    range: range.clone(),
                    what,
                },
            ));
        }
        bytes.extend_from_slice(&piece);
    }
    match bytes.len() as u64 == len {
        true => Ok(bytes),
        false => Err((true, short(range, bytes.len() as u64))),
    }
}

fn short(range: &Range<u64>, found: u64) -> Error {
    let expected = range.end - range.start;
    Error::Answer {
        range: range.clone(),
        what: format!("found {found} bytes, expected {expected}"),
    }
}

/// A text of the server, for a message.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

/// The object, if it is empty. A server has no first byte of it to send.
fn empty(client: &Client, (store, path): &Place, error: &Error) -> Option<ObjectMeta> {
    let Error::Failed { why, .. } = error else {
        return None;
    };
    if !why.contains("416") {
        return None;
    }
    let (store, path) = (Arc::clone(store), path.clone());
    let head = client.wait(async move { store.head(&path).await.ok() });
    head.ok().flatten().filter(|meta| meta.size == 0)
}

/// Calls `work` until it succeeds or fails for good, with increasing delays.
async fn repeated<T, F: Future<Output = Result<T, (bool, Error)>>>(
    retries: usize,
    work: impl Fn() -> F,
) -> Result<T, Error> {
    let mut delay = Duration::from_millis(100);
    let mut tries = 0;
    loop {
        match work().await {
            Ok(value) => return Ok(value),
            Err((true, _)) if tries < retries => {}
            Err((_, error)) => return Err(error),
        }
        tries += 1;
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(5));
    }
}

impl ReadAt for Object {
    fn size(&self) -> io::Result<u64> {
        Ok(self.source.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.source.size.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        if len == 0 {
            return Ok(0);
        }
        let blocks = offset / BLOCK..(offset + len as u64).div_ceil(BLOCK);
        self.read_ahead(&blocks);
        let mut done = 0;
        for block in blocks.clone() {
            let bytes = self.block(block, block..blocks.end)?;
            // The offset in a block is less than its size.
            let from = ((offset + done as u64) - block * BLOCK) as usize;
            let Some(piece) = bytes.get(from..) else {
                break;
            };
            let n = piece.len().min(len - done);
            buf[done..done + n].copy_from_slice(&piece[..n]);
            done += n;
        }
        Ok(done)
    }

    fn modified(&self) -> Option<SystemTime> {
        Some(self.source.modified)
    }
}
