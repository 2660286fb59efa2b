//! Runs the ordered pipeline and the frame cache of `compress` under schedules that shuttle chooses:
//! random ones, and ones with few changes of the running thread (PCT). A deadlock, a lost wakeup or a
//! wrong result fails, and shuttle prints the schedule.
//!
//! `cargo run --release -- [SCHEDULES]`: schedules of each kind for each check [1000]

#[allow(dead_code, reason = "the checks use a part of the module")]
#[path = "../../../compress/src/stream/cache.rs"]
mod cache;
#[allow(dead_code, reason = "the checks use a part of the module")]
#[path = "../../../compress/src/pipeline.rs"]
mod pipeline;
mod sync;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use livecore_compress::{Error, Progress, Sparse};

use cache::FrameCache;
use pipeline::Job;

/// Pieces `0..count`. Piece `fails` fails, in `claim` or in `work`.
struct Count {
    count: u64,
    fails: Option<u64>,
    in_claim: bool,
}

impl Job for Count {
    type Worker = u64;
    type Note = u64;

    fn worker(&self) -> Result<u64, Error> {
        Ok(0)
    }

    fn claim(&self, worker: &mut u64, number: u64) -> Result<bool, Error> {
        *worker = number;
        match self.in_claim && self.fails == Some(number) {
            true => Err(broken(number)),
            false => Ok(number < self.count),
        }
    }

    fn work(&self, worker: &mut u64, number: u64, out: &mut Vec<u8>) -> Result<u64, Error> {
        assert_eq!(*worker, number);
        shuttle::thread::yield_now();
        if !self.in_claim && self.fails == Some(number) {
            return Err(broken(number));
        }
        out.clear();
        out.push(number as u8);
        Ok(number)
    }
}

fn broken(number: u64) -> Error {
    Error::Broken {
        region: "piece".to_owned(),
        offset: number,
        found: "a failure".to_owned(),
        expected: "none".to_owned(),
    }
}

/// Requests the end at the call `after`.
struct Stop {
    calls: AtomicUsize,
    after: usize,
}

impl Progress for Stop {
    fn advance(&self, _content: u64, _stored: u64) {}

    fn cancelled(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed) >= self.after
    }
}

/// The sink gets all pieces before the first failure, in order, and the caller that failure.
fn ordered(threads: usize, job: &Count, sink_fails: Option<u64>, stop_after: usize) {
    let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
    let stop = Stop {
        calls: AtomicUsize::new(0),
        after: stop_after,
    };
    let mut seen = 0;
    let result = pipeline::run(job, threads, &stop, &mut |number, bytes, note| {
        assert_eq!((number, note, bytes), (seen, seen, &[seen as u8][..]));
        if sink_fails == Some(number) {
            return Err(broken(1000));
        }
        seen += 1;
        Ok(())
    });
    let fails = job.fails.filter(|at| *at < job.count);
    match result {
        Err(Error::Cancelled) => assert!(stop_after < usize::MAX),
        Err(Error::Broken { offset: 1000, .. }) => assert_eq!(sink_fails, Some(seen)),
        Err(Error::Broken { offset, .. }) => {
            assert_eq!((Some(offset), seen), (fails, offset));
        }
        Err(error) => panic!("{error}"),
        Ok(()) => assert_eq!((seen, fails, sink_fails), (job.count, None, None)),
    }
}

fn pipeline_passes_pieces_in_order() {
    for (count, threads) in [(0, 2), (1, 3), (5, 2), (9, 3)] {
        let job = Count {
            count,
            fails: None,
            in_claim: false,
        };
        ordered(threads, &job, None, usize::MAX);
    }
}

fn pipeline_returns_the_first_failure_by_number() {
    for (fails, in_claim) in [(0, false), (3, false), (0, true), (3, true)] {
        let job = Count {
            count: 6,
            fails: Some(fails),
            in_claim,
        };
        ordered(3, &job, None, usize::MAX);
    }
}

fn pipeline_ends_when_the_sink_fails_or_the_caller_stops() {
    let job = Count {
        count: 6,
        fails: None,
        in_claim: false,
    };
    ordered(2, &job, Some(0), usize::MAX);
    ordered(2, &job, Some(4), usize::MAX);
    for after in [0, 1, 4] {
        ordered(2, &job, None, after);
    }
}

/// Readers get the right frame; a frame is not decoded by two readers at once; a failure is not
/// cached; `clear` keeps readers right.
fn cache_decodes_a_frame_once_at_a_time() {
    let cache = Arc::new(FrameCache::new(2, 1));
    let busy: Arc<[AtomicUsize; 4]> = Arc::default();
    let reader = |start: u64| {
        let (cache, busy) = (Arc::clone(&cache), Arc::clone(&busy));
        move || {
            for number in (start..start + 4).map(|n| n % 4) {
                let found = cache.get(number, |_| {
                    let readers = &busy[number as usize];
                    assert_eq!(readers.fetch_add(1, Ordering::SeqCst), 0);
                    shuttle::thread::yield_now();
                    readers.fetch_sub(1, Ordering::SeqCst);
                    match start {
                        1 => Err(broken(number)),
                        _ => Ok(vec![number as u8]),
                    }
                });
                match found {
                    Ok(frame) => {
                        let mut byte = [9];
                        assert_eq!((frame.copy(0, &mut byte), byte), (1, [number as u8]));
                    }
                    Err(_) => assert_eq!(start, 1),
                }
                if start == 2 {
                    cache.clear();
                }
            }
        }
    };
    let threads: Vec<_> = (0..3)
        .map(|start| shuttle::thread::spawn(reader(start)))
        .collect();
    for thread in threads {
        thread.join().expect("a reader does not panic");
    }
}

fn main() {
    let schedules = std::env::args().nth(1);
    let schedules = schedules.map_or(1000, |n| n.parse().expect("a number of schedules"));
    let checks: [(&str, fn()); 4] = [
        ("pipeline: order", pipeline_passes_pieces_in_order),
        (
            "pipeline: failures",
            pipeline_returns_the_first_failure_by_number,
        ),
        (
            "pipeline: early end",
            pipeline_ends_when_the_sink_fails_or_the_caller_stops,
        ),
        ("cache", cache_decodes_a_frame_once_at_a_time),
    ];
    for (name, check) in checks {
        shuttle::check_random(check, schedules);
        shuttle::check_pct(check, schedules, 3);
        println!("schedules: {name}: {} tried", 2 * schedules);
    }
}
