//! Which messages may be acknowledged, so that the client repeats the ones that were lost.
//!
//! A client sends a batch of up to 64 messages and waits for their acknowledgements. It records them by
//! shifting a 32-bit 1 (FreeBSD 15.0 and earlier, `sys/net/debugnet.c`): the messages `n` and `n + 32` of
//! a batch share a bit, and an acknowledgement of one counts for both. So both are acknowledged when both
//! have arrived, and `n` alone only when it is known that the batch ends before `n + 32`.
//!
//! The last message of a batch is recognized by its size: the kernel sends whole blocks, so it is shorter
//! than the others, except with sizes for which batches of more than 32 messages do not occur or may end
//! with a message of full size. With those, `n` is acknowledged unless a later message than `n + 31` has
//! arrived.

use livecore_defs::netdump::{IN_FLIGHT_MAX, TRACKED};

/// Bytes in a batch.
const BATCH: usize = 64 << 10;

/// The size of a batch is a multiple of this.
const BLOCK: usize = 512;

/// Number of repeated messages without a new one after which the rule is given up for a client: it is
/// not the kernel's.
const STALLED: u32 = 4 * IN_FLIGHT_MAX as u32;

/// The batch that a client sends.
#[derive(Debug)]
pub(super) struct Batch {
    /// The sequence number of its first message.
    base: u32,
    /// The messages that have arrived, and those that were acknowledged.
    arrived: u64,
    acked: u64,
    /// The last message that has arrived: its number in the batch and its size.
    last: (u32, usize),
    /// The size of the longest message of the client.
    full: usize,
    /// Repeated messages since the last new one.
    stalled: u32,
}

impl Batch {
    /// A batch that begins with the message `base`.
    pub(super) fn new(base: u32) -> Self {
        Self {
            base,
            arrived: 0,
            acked: 0,
            last: (0, 0),
            full: 0,
            stalled: 0,
        }
    }

    /// Begins the next batch with the message `base`, unless it has begun.
    pub(super) fn begin(&mut self, base: u32) {
        let is_ahead = base.wrapping_sub(self.base) <= u32::MAX / 2;
        if is_ahead && base != self.base {
            (self.base, self.arrived, self.acked) = (base, 0, 0);
            (self.last, self.stalled) = ((0, 0), 0);
        }
    }

    /// Records message `seqno` with `len` bytes of data. Returns the messages to acknowledge.
    pub(super) fn arrive(&mut self, seqno: u32, len: usize) -> impl Iterator<Item = u32> + use<> {
        self.full = self.full.max(len);
        let number = seqno.wrapping_sub(self.base);
        let is_in_batch = (number as usize) < IN_FLIGHT_MAX;
        if !is_in_batch || self.stalled > STALLED {
            // Of an earlier batch, which is complete; or of a client that this rule is not for.
            return acks(seqno, 1);
        }
        let bit = 1_u64 << number;
        let is_new = self.arrived & bit == 0;
        self.stalled = if is_new { 0 } else { self.stalled + 1 };
        self.arrived |= bit;
        if number >= self.last.0 {
            self.last = (number, len);
        }
        let base = self.base;
        let ready = self.ready();
        // An acknowledgement that was sent before is repeated.
        let now = ready & (!self.acked | bit);
        self.acked |= ready;
        if let Some(end) = self.end()
            && self.arrived.trailing_ones() > end
        {
            self.begin(base.wrapping_add(end + 1));
        }
        acks(base, now)
    }

    /// The number of the last message, if it has arrived.
    fn end(&self) -> Option<u32> {
        (self.last.1 < self.full).then_some(self.last.0)
    }

    /// The messages that may be acknowledged.
    fn ready(&self) -> u64 {
        // Messages that the batch does not have do not have to arrive.
        let end = self.end().or((!can_lose(self.full)).then_some(self.last.0));
        let beyond = end.map_or(0, |end| u64::MAX.checked_shl(end + 1).unwrap_or(0));
        let there = self.arrived | beyond;
        let low = there & (there >> TRACKED) & u64::from(u32::MAX);
        self.arrived & (low | low << TRACKED)
    }
}

/// The messages of `bits`, counted from `base`.
fn acks(base: u32, bits: u64) -> impl Iterator<Item = u32> + use<> {
    let numbers = (0..IN_FLIGHT_MAX as u32).filter(move |n| bits & 1 << n != 0);
    numbers.map(move |n| base.wrapping_add(n))
}

/// Whether a client that sends messages of this size has batches of more than 32 messages, which all end
/// with a shorter one.
fn can_lose(full: usize) -> bool {
    let ends_full = || {
        (BLOCK..=BATCH)
            .step_by(BLOCK)
            .any(|size| size.is_multiple_of(full))
    };
    full * TRACKED < BATCH && full > 0 && !ends_full()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(batch: &mut Batch, seqno: u32, len: usize) -> Vec<u32> {
        batch.arrive(seqno, len).collect()
    }

    /// A batch of 46 messages of 1448 bytes, the last of which has 376.
    #[test]
    fn messages_that_share_a_bit_are_acknowledged_together() {
        let mut batch = Batch::new(2);
        for n in 0..32 {
            assert!(arrive(&mut batch, 2 + n, 1448).is_empty());
        }
        assert_eq!(arrive(&mut batch, 34, 1448), [2, 34]);
        // The message 35 is lost.
        for n in 34..45 {
            assert_eq!(arrive(&mut batch, 2 + n, 1448), [2 + n - 32, 2 + n]);
        }
        let last = arrive(&mut batch, 47, 376);
        assert_eq!(last.first(), Some(&15));
        assert!(last.contains(&33) && last.contains(&47) && !last.contains(&3));
        // The client repeats what shares the bit of the lost message.
        assert!(arrive(&mut batch, 3, 1448).is_empty());
        assert_eq!(arrive(&mut batch, 35, 1448), [3, 35]);
        // The next batch, and a repeated message of the old one.
        assert!(arrive(&mut batch, 48, 1448).is_empty());
        assert_eq!(arrive(&mut batch, 35, 1448), [35]);
    }

    #[test]
    fn short_message_that_arrives_first_is_withheld_until_the_other_of_its_bit_has_arrived() {
        let mut batch = Batch::new(2);
        assert!(arrive(&mut batch, 47, 376).is_empty());
        for n in (0..13).chain(14..45) {
            assert!(!arrive(&mut batch, 2 + n, 1448).contains(&47));
        }
        assert_eq!(arrive(&mut batch, 15, 1448), [15, 47]);
    }

    #[test]
    fn end_that_is_lost_withholds_the_acknowledgements_that_could_be_its_own() {
        let mut batch = Batch::new(2);
        let early: Vec<u32> = (0..40)
            .flat_map(|n| arrive(&mut batch, 2 + n, 1448))
            .collect();
        assert_eq!(early.len(), 16, "only pairs: {early:?}");
        for n in 8..32 {
            assert!(arrive(&mut batch, 2 + n, 1448).is_empty());
        }
        let rest: Vec<u32> = (40..46)
            .flat_map(|n| arrive(&mut batch, 2 + n, if n == 45 { 376 } else { 1448 }))
            .collect();
        assert_eq!(early.len() + rest.len(), 46);
    }

    #[test]
    fn sizes_that_are_not_at_risk_are_acknowledged_at_once() {
        for len in [2048, 4096, 8948, 1024, 512, 1] {
            let mut batch = Batch::new(2);
            assert_eq!(arrive(&mut batch, 2, len), [2], "{len}");
        }
        assert!(can_lose(1448) && can_lose(1400 - 52));
    }

    #[test]
    fn client_with_other_batches_is_acknowledged_in_the_end() {
        let mut batch = Batch::new(2);
        let tries = (0..1000).find(|_| !arrive(&mut batch, 2, 1448).is_empty());
        assert!(tries.is_some());
    }
}
