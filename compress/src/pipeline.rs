//! The ordered pipeline: workers process pieces in parallel, and the calling thread passes the
//! results on in order.
//!
//! **Work** is a sequence of pieces, numbered from 0. A worker takes the next number, writes the
//! result of the piece to a buffer, and puts the buffer into the slot of that number. The calling
//! thread takes the slots in the order of their numbers and passes each to the sink. The order, and
//! so the output, does not depend on the number of workers.
//!
//! **Numbers** are taken under the claim lock. If the source can be read at any offset, nothing else
//! happens under the lock. A sequential source is also read under the lock: the worker that takes
//! number `k` reads piece `k`, into its own buffer. There is no reader thread and no input queue;
//! while one worker reads, the others work.
//!
//! **Buffers** for output belong to the pipeline. A worker gets one with its permit to take a number,
//! fills it, and leaves it in the slot. The calling thread returns it after the sink has used it.
//! Input buffers and codec contexts belong to a worker for its lifetime.
//!
//! **Memory** is bounded by permits. There are [`WINDOW_PER_WORKER`] for each worker, and at least
//! four, so that one worker and the sink need not wait for each other at each piece. A piece has its
//! permit from before its number is taken until the sink has used it. So a slow sink stops the
//! workers, a slow piece stops the workers ahead of it, and there are never more buffers than
//! permits. There is no deadlock, because the piece with the lowest number already has its permit.
//!
//! **Errors** keep the order: the sink gets all pieces before the first that failed, then the caller
//! gets that error. The first is the first by number, not by time, so the same input always fails in
//! the same way. After a failure no worker takes another number. When the sink fails or
//! [`Progress::cancelled`] returns `true`, workers finish their pieces and the results are dropped. A
//! panic in a worker or in the sink ends all workers, and continues in the calling thread.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::PoisonError;
use std::time::Duration;

use crate::sync::{self, Condvar, Mutex, MutexGuard};
use crate::{Error, Progress};

/// Number of permits for each worker: pieces taken and not yet used by the sink.
pub(crate) const WINDOW_PER_WORKER: usize = 2;

/// Minimum number of permits.
const WINDOW_MIN: usize = 4;

/// Interval at which the waiting calling thread checks [`Progress::cancelled`].
const POLL: Duration = Duration::from_millis(50);

/// A sequence of pieces to process.
pub(crate) trait Job: Sync {
    /// The state of one worker: contexts, input buffers.
    type Worker;
    /// The result of a piece, in addition to its bytes.
    type Note: Send;

    /// Creates a worker, in the worker's thread.
    fn worker(&self) -> Result<Self::Worker, Error>;

    /// Takes piece `number`; returns `false` if there is none. Calls do not overlap, and have
    /// ascending numbers.
    fn claim(&self, worker: &mut Self::Worker, number: u64) -> Result<bool, Error>;

    /// Writes the result of piece `number` to `out`, which may contain old bytes.
    fn work(
        &self,
        worker: &mut Self::Worker,
        number: u64,
        out: &mut Vec<u8>,
    ) -> Result<Self::Note, Error>;
}

/// Receives pieces in order: number, bytes, note.
pub(crate) type Pieces<'a, N> = dyn FnMut(u64, &[u8], N) -> Result<(), Error> + 'a;

/// The result of a piece.
type Done<N> = Result<(Vec<u8>, N), Error>;

struct State<N> {
    /// Results in order; slot 0 is the next for the sink.
    slots: VecDeque<Option<Done<N>>>,
    /// Number of the piece in slot 0.
    first: u64,
    /// Number of available permits.
    permits: usize,
    /// Unused buffers.
    spare: Vec<Vec<u8>>,
    /// Number of workers that may still fill a slot.
    workers: usize,
    /// Whether workers must stop taking numbers.
    stop: bool,
}

struct Shared<N> {
    state: Mutex<State<N>>,
    /// Signals a returned permit, or `stop`.
    permit: Condvar,
    /// Signals a filled slot, or the end of a worker.
    filled: Condvar,
    /// The next number; locked while a worker takes a piece.
    claim: Mutex<u64>,
}

impl<N> Shared<N> {
    fn lock(&self) -> MutexGuard<'_, State<N>> {
        // No code panics in the middle of a change of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.permit.notify_all();
        self.filled.notify_all();
    }

    fn put(&self, number: u64, done: Done<N>) {
        let mut state = self.lock();
        if done.is_err() {
            state.stop = true;
            self.permit.notify_all();
        }
        // A number is taken with a permit, and permits bound the distance from `first`.
        let slot = (number - state.first) as usize;
        while state.slots.len() <= slot {
            state.slots.push_back(None);
        }
        state.slots[slot] = Some(done);
        drop(state);
        self.filled.notify_all();
    }
}

/// Updates the state when its thread returns or panics.
struct Leave<'a, N> {
    shared: &'a Shared<N>,
    worker: bool,
}

impl<N> Drop for Leave<'_, N> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if self.worker {
            state.workers -= 1;
        }
        if !self.worker || std::thread::panicking() {
            state.stop = true;
        }
        drop(state);
        self.shared.permit.notify_all();
        self.shared.filled.notify_all();
    }
}

/// Runs `job` with `threads` workers, and passes the pieces to `sink` in order.
pub(crate) fn run<J: Job>(
    job: &J,
    threads: NonZeroUsize,
    progress: &dyn Progress,
    sink: &mut Pieces<'_, J::Note>,
) -> Result<(), Error> {
    let threads = threads.get();
    let shared = Shared {
        state: Mutex::new(State {
            slots: VecDeque::new(),
            first: 0,
            permits: threads.saturating_mul(WINDOW_PER_WORKER).max(WINDOW_MIN),
            spare: Vec::new(),
            workers: threads,
            stop: false,
        }),
        permit: Condvar::new(),
        filled: Condvar::new(),
        claim: Mutex::new(0),
    };
    sync::scope(|scope| {
        let _leave = Leave {
            shared: &shared,
            worker: false,
        };
        for started in 0..threads {
            let name = format!("frame {started}");
            let spawned = sync::spawn(scope, name, || serve(job, &shared));
            if let Err(error) = spawned {
                // Continue with fewer workers; fail without any.
                let missing = threads - started;
                shared.lock().workers -= missing;
                if started == 0 {
                    return Err(Error::Read(error));
                }
                break;
            }
        }
        drain(&shared, progress, sink)
    })
}

/// The thread of one worker.
fn serve<J: Job>(job: &J, shared: &Shared<J::Note>) {
    let _leave = Leave {
        shared,
        worker: true,
    };
    let mut worker = job.worker();
    loop {
        let mut state = shared.lock();
        while state.permits == 0 && !state.stop {
            state = shared
                .permit
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.stop {
            return;
        }
        state.permits -= 1;
        let mut out = state.spare.pop().unwrap_or_default();
        drop(state);

        let mut next = shared.claim.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.lock().stop {
            return;
        }
        let number = *next;
        let ready = match &mut worker {
            Ok(worker) => job.claim(worker, number),
            Err(_) => Ok(true),
        };
        match ready {
            Ok(true) => *next += 1,
            Ok(false) => {
                shared.stop();
                return;
            }
            Err(error) => {
                *next += 1;
                shared.put(number, Err(error));
                return;
            }
        }
        drop(next);

        worker = match worker {
            Ok(mut worker) => {
                let note = job.work(&mut worker, number, &mut out);
                shared.put(number, note.map(|note| (out, note)));
                Ok(worker)
            }
            Err(error) => {
                shared.put(number, Err(error));
                return;
            }
        };
    }
}

/// Passes each piece to the sink, in order, on the calling thread.
fn drain<N>(
    shared: &Shared<N>,
    progress: &dyn Progress,
    sink: &mut Pieces<'_, N>,
) -> Result<(), Error> {
    loop {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        let mut state = shared.lock();
        if !matches!(state.slots.front(), Some(Some(_))) {
            if state.workers == 0 {
                // All pieces were received. A gap means that a worker panicked; the scope panics.
                return Ok(());
            }
            let (guard, _) = shared
                .filled
                .wait_timeout(state, POLL)
                .unwrap_or_else(PoisonError::into_inner);
            drop(guard);
            continue;
        }
        let Some(Some(done)) = state.slots.pop_front() else {
            continue;
        };
        let number = state.first;
        state.first += 1;
        drop(state);

        let (bytes, note) = done?;
        sink(number, &bytes, note)?;

        let mut state = shared.lock();
        state.spare.push(bytes);
        state.permits += 1;
        drop(state);
        shared.permit.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::NoProgress;

    /// A job of pieces `0..count`; piece `fails` fails, piece `panics` panics.
    struct Count {
        count: u64,
        fails: Option<u64>,
        panics: Option<u64>,
        alive: AtomicUsize,
        most: AtomicUsize,
    }

    impl Count {
        fn new(count: u64) -> Self {
            Self {
                count,
                fails: None,
                panics: None,
                alive: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
            }
        }
    }

    impl Job for Count {
        type Worker = ();
        type Note = u64;

        fn worker(&self) -> Result<(), Error> {
            Ok(())
        }

        fn claim(&self, _: &mut (), number: u64) -> Result<bool, Error> {
            if number < self.count {
                let alive = self.alive.fetch_add(1, Ordering::Relaxed) + 1;
                self.most.fetch_max(alive, Ordering::Relaxed);
            }
            Ok(number < self.count)
        }

        fn work(&self, _: &mut (), number: u64, out: &mut Vec<u8>) -> Result<u64, Error> {
            if number.is_multiple_of(3) {
                std::thread::sleep(Duration::from_micros(200));
            }
            assert_ne!(self.panics, Some(number), "a panic for this test");
            if self.fails == Some(number) {
                return Err(Error::Options(format!("piece {number}")));
            }
            out.clear();
            out.extend(number.to_le_bytes());
            Ok(number)
        }
    }

    fn threads(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    #[test]
    fn pieces_arrive_in_order_and_bounded() {
        for n in [1, 2, 5] {
            let job = Count::new(300);
            let mut next = 0;
            run(&job, threads(n), &NoProgress, &mut |number, bytes, note| {
                assert_eq!((number, note), (next, next));
                assert_eq!(bytes, next.to_le_bytes());
                job.alive.fetch_sub(1, Ordering::Relaxed);
                next += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(next, 300);
            assert!(job.most.load(Ordering::Relaxed) <= (n * WINDOW_PER_WORKER).max(WINDOW_MIN));
        }
    }

    #[test]
    fn the_first_failure_follows_all_pieces_before_it() {
        for n in [1, 4] {
            let mut job = Count::new(1_000_000);
            job.fails = Some(17);
            let mut seen = 0;
            let error = run(&job, threads(n), &NoProgress, &mut |_, _, _| {
                seen += 1;
                Ok(())
            })
            .unwrap_err();
            assert_eq!((error.to_string().as_str(), seen), ("piece 17", 17));
        }
    }

    #[test]
    fn a_failing_sink_and_cancellation_end_the_pipeline() {
        struct Stop(AtomicUsize);
        impl Progress for Stop {
            fn cancelled(&self) -> bool {
                self.0.fetch_add(1, Ordering::Relaxed) > 20
            }
        }
        let job = Count::new(u64::MAX);
        let error = run(&job, threads(3), &NoProgress, &mut |number, _, _| {
            if number == 5 {
                return Err(Error::Options("full".into()));
            }
            Ok(())
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "full");
        let stop = Stop(AtomicUsize::new(0));
        let error = run(&job, threads(3), &stop, &mut |_, _, _| Ok(())).unwrap_err();
        assert!(matches!(error, Error::Cancelled));
    }

    #[test]
    fn panics_of_workers_and_sinks_do_not_hang() {
        let mut job = Count::new(1000);
        job.panics = Some(9);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(&job, threads(3), &NoProgress, &mut |_, _, _| Ok(()))
        }));
        assert!(result.is_err());
        let job = Count::new(u64::MAX);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(&job, threads(3), &NoProgress, &mut |number, _, _| {
                assert_ne!(number, 40, "a panic for this test");
                Ok(())
            })
        }));
        assert!(result.is_err());
    }
}
