//! Work on many items, on all CPUs, with results in order.

use std::num::NonZeroUsize;

use rayon::prelude::*;

use crate::failure::Failure;

/// Number of items whose results are in memory at a time.
const BATCH: usize = 1024;

/// Applies `work` to all items in parallel, and passes each item with its result to `each`, in order.
pub(crate) fn in_order<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    mut each: impl FnMut(&T, R) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // A single item needs no threads.
    if let [item] = items {
        return each(item, work(item));
    }
    for batch in items.chunks(BATCH) {
        let results: Vec<R> = batch.par_iter().map(&work).collect();
        for (item, result) in batch.iter().zip(results) {
            each(item, result)?;
        }
    }
    Ok(())
}

/// Like [`in_order`], on at most `threads` CPUs.
pub(crate) fn in_order_on<T: Sync, R: Send>(
    threads: NonZeroUsize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    mut each: impl FnMut(&T, R) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
    let pool = pool.build().map_err(Failure::could_not)?;
    for batch in items.chunks(BATCH) {
        let results: Vec<R> = pool.install(|| batch.par_iter().map(&work).collect());
        for (item, result) in batch.iter().zip(results) {
            each(item, result)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_the_first_error_ends_the_work() {
        let items: Vec<usize> = (0..3 * BATCH + 7).collect();
        let mut seen = Vec::new();
        let done = in_order(
            &items,
            |item| item * 2,
            |item, result| {
                assert_eq!(result, item * 2);
                if *item == 2 * BATCH + 5 {
                    return Err(Failure::could_not("enough"));
                }
                seen.push(*item);
                Ok(())
            },
        );
        assert!(done.is_err());
        assert_eq!(seen, items[..2 * BATCH + 5]);
    }
}
