//! Parallel work on frames, with results in order.
//!
//! The calling thread creates jobs in the order of the file, sends them to workers through a bounded
//! channel, and receives the results in the order of the jobs. Each job has its own reply channel,
//! so results need no sorting: the thread waits for the oldest job first. It starts a worker when a
//! job arrives and all others may be busy, so a file with few frames uses few threads.
//!
//! The total cost of the jobs in progress bounds memory: the thread creates a job only while the
//! total is below the limit, or no job is in progress. A worker owns a job's bytes until it has sent
//! the result. To stop early, the calling thread drops the job channel; each worker finishes its
//! job, finds the channel closed and ends, and the scope waits for them.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use crate::report::Stop;

/// Creates jobs and receives results, on the calling thread.
pub(crate) trait Pump {
    /// One piece of work.
    type Job: Send;
    /// The result of a job.
    type Done: Send;

    /// The next job and the memory that it uses; `None` if there is none now.
    fn next_job(&mut self) -> Result<Option<(Self::Job, u64)>, Stop>;

    /// Does one job, on any thread.
    fn work(job: Self::Job) -> Self::Done;

    /// Receives the result of the oldest job.
    fn done(&mut self, done: Self::Done) -> Result<(), Stop>;
}

/// Runs `pump` until it has no more jobs and has received all results.
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
        let mut in_progress: VecDeque<(Receiver<P::Done>, u64)> = VecDeque::new();
        let mut total = 0_u64;
        let mut more = true;
        loop {
            while more && in_progress.len() < depth && (total < memory || in_progress.is_empty()) {
                let Some((job, cost)) = pump.next_job()? else {
                    more = false;
                    break;
                };
                if started < most && started <= in_progress.len() {
                    let thread = std::thread::Builder::new();
                    match thread.spawn_scoped(scope, || work_off::<P>(&queue)) {
                        Ok(_) => started += 1,
                        // Without any worker the calling thread does all jobs.
                        Err(_) if started == 0 => {
                            pump.done(P::work(job))?;
                            return alone(pump);
                        }
                        Err(_) => most = started,
                    }
                }
                let (reply, done) = mpsc::sync_channel(1);
                if jobs.send((job, reply)).is_err() {
                    return Err(Stop::Failed("all workers ended".into()));
                }
                total = total.saturating_add(cost);
                in_progress.push_back((done, cost));
            }
            let Some((oldest, cost)) = in_progress.pop_front() else {
                return Ok(());
            };
            let done = oldest
                .recv()
                .map_err(|_| Stop::Failed("a worker ended early".into()))?;
            total = total.saturating_sub(cost);
            pump.done(done)?;
        }
    })
}

/// Does all jobs on the calling thread.
fn alone<P: Pump>(pump: &mut P) -> Result<(), Stop> {
    while let Some((job, _)) = pump.next_job()? {
        pump.done(P::work(job))?;
    }
    Ok(())
}

/// A job and the channel for its result.
type Ticket<P> = (<P as Pump>::Job, SyncSender<<P as Pump>::Done>);

fn work_off<P: Pump>(queue: &Mutex<Receiver<Ticket<P>>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((job, reply)) = next else { return };
        // Sending fails if the calling thread has stopped.
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
    fn results_arrive_in_the_order_of_the_jobs_for_any_number_of_threads() {
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
