//! Frames in parallel, results in order.
//!
//! One thread, the caller's, owns everything: it makes jobs in the order of the file, hands them
//! to workers over a bounded channel, and takes each result in the order in which the jobs were
//! made. A job carries its own reply channel, so order needs no sorting: the oldest job's reply is
//! waited for first. A worker is started when a job comes and all others may be at work: what has
//! few frames, or large ones of which few are under way, takes few threads.
//!
//! Memory is bounded by the cost of the jobs that are under way: a new job is made only while
//! their sum is below the limit, or nothing is under way. A worker owns a job's bytes until it has
//! sent the result. When the caller stops early it drops the job channel; workers finish what they
//! have, see the channel closed and end, and the scope waits for them.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use crate::report::Stop;

/// Makes jobs and takes results; always on the caller's thread.
pub(crate) trait Pump {
    /// One piece of work.
    type Job: Send;
    /// What comes of it.
    type Done: Send;

    /// The next job and the bytes that it holds until it is done. `None`: no more for now.
    fn next_job(&mut self) -> Result<Option<(Self::Job, u64)>, Stop>;

    /// Does one job; on any thread.
    fn work(job: Self::Job) -> Self::Done;

    /// Takes the result of the oldest job.
    fn done(&mut self, done: Self::Done) -> Result<(), Stop>;
}

/// Runs `pump` until it has no more jobs and all results are taken.
pub(crate) fn run<P: Pump>(pump: &mut P, threads: NonZeroUsize, memory: u64) -> Result<(), Stop> {
    if threads.get() == 1 {
        return alone(pump);
    }
    let depth = threads.get().saturating_mul(2);
    let (jobs, queue) = mpsc::sync_channel::<Ticket<P>>(depth);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        let jobs = jobs;
        let (mut started, mut most) = (0, threads.get());
        let mut under_way: VecDeque<(Receiver<P::Done>, u64)> = VecDeque::new();
        let mut held = 0_u64;
        let mut more = true;
        loop {
            while more && under_way.len() < depth && (held < memory || under_way.is_empty()) {
                let Some((job, cost)) = pump.next_job()? else {
                    more = false;
                    break;
                };
                if started < most && started <= under_way.len() {
                    let thread = std::thread::Builder::new();
                    match thread.spawn_scoped(scope, || work_off::<P>(&queue)) {
                        Ok(_) => started += 1,
                        // Fewer do the same work, and if there is none the caller's thread does.
                        Err(_) if started == 0 => {
                            pump.done(P::work(job))?;
                            return alone(pump);
                        }
                        Err(_) => most = started,
                    }
                }
                let (reply, done) = mpsc::sync_channel(1);
                if jobs.send((job, reply)).is_err() {
                    return Err(Stop::Failed("no worker is left".into()));
                }
                held = held.saturating_add(cost);
                under_way.push_back((done, cost));
            }
            let Some((oldest, cost)) = under_way.pop_front() else {
                return Ok(());
            };
            let done = oldest
                .recv()
                .map_err(|_| Stop::Failed("a worker ended early".into()))?;
            held = held.saturating_sub(cost);
            pump.done(done)?;
        }
    })
}

/// Does all jobs on the caller's thread.
fn alone<P: Pump>(pump: &mut P) -> Result<(), Stop> {
    while let Some((job, _)) = pump.next_job()? {
        pump.done(P::work(job))?;
    }
    Ok(())
}

/// A job, and where its result goes.
type Ticket<P> = (<P as Pump>::Job, SyncSender<<P as Pump>::Done>);

fn work_off<P: Pump>(queue: &Mutex<Receiver<Ticket<P>>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((job, reply)) = next else { return };
        // Nobody listens any more when the caller has stopped.
        let _ = reply.send(P::work(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Squares {
        next: u64,
        seen: Vec<u64>,
        stop_at: u64,
    }

    impl Pump for Squares {
        type Job = u64;
        type Done = u64;

        fn next_job(&mut self) -> Result<Option<(u64, u64)>, Stop> {
            self.next += 1;
            Ok((self.next <= 100).then_some((self.next, 10)))
        }

        fn work(job: u64) -> u64 {
            if job.is_multiple_of(7) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            job * job
        }

        fn done(&mut self, done: u64) -> Result<(), Stop> {
            self.seen.push(done);
            if done == self.stop_at {
                return Err(Stop::Failed("enough".into()));
            }
            Ok(())
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_jobs_whatever_the_number_of_threads() {
        for threads in 1..5 {
            let mut pump = Squares {
                next: 0,
                seen: vec![],
                stop_at: 0,
            };
            run(&mut pump, NonZeroUsize::new(threads).unwrap(), 35).unwrap();
            assert_eq!(pump.seen, (1..=100).map(|n| n * n).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn stopping_early_ends_all_workers() {
        let mut pump = Squares {
            next: 0,
            seen: vec![],
            stop_at: 25,
        };
        assert!(run(&mut pump, NonZeroUsize::new(3).unwrap(), 1000).is_err());
        assert_eq!(pump.seen, [1, 4, 9, 16, 25]);
    }
}
