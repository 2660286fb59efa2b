//! Policies of evicting frames, simulated on traces.

use std::collections::{HashMap, HashSet, VecDeque};

/// A cache with a fixed number of frames.
pub(crate) trait Policy {
    /// Uses a frame; returns whether it was in the cache.
    fn is_hit(&mut self, frame: u64) -> bool;
}

/// The name of a policy, and a cache of `capacity` frames with it.
type Named = (&'static str, fn(usize) -> Box<dyn Policy>);

/// All policies. The first is that of `compress/src/stream/cache.rs`.
pub(crate) const POLICIES: [Named; 4] = [
    ("second chance", |capacity| {
        Box::new(SecondChance {
            capacity,
            used: HashMap::new(),
            order: VecDeque::new(),
        })
    }),
    ("LRU", |capacity| {
        Box::new(Lru {
            capacity,
            order: Order::default(),
        })
    }),
    ("2Q", |capacity| {
        Box::new(TwoQueues {
            capacity,
            once: Order::default(),
            often: Order::default(),
            evicted: Order::default(),
        })
    }),
    ("ARC", |capacity| {
        Box::new(Arc {
            capacity,
            target: 0,
            once: Order::default(),
            often: Order::default(),
            evicted_once: Order::default(),
            evicted_often: Order::default(),
        })
    }),
];

/// Number of frames that a policy decodes for a trace.
pub(crate) fn misses(policy: &mut dyn Policy, trace: &[u64]) -> usize {
    trace.iter().filter(|frame| !policy.is_hit(**frame)).count()
}

/// Frames in order of use.
#[derive(Default)]
struct Order {
    /// The time of a frame's last use.
    times: HashMap<u64, u64>,
    /// Uses, oldest first; those that are not a frame's last are ignored.
    uses: VecDeque<(u64, u64)>,
    now: u64,
}

impl Order {
    fn len(&self) -> usize {
        self.times.len()
    }

    fn contains(&self, frame: u64) -> bool {
        self.times.contains_key(&frame)
    }

    /// Adds a frame, or makes it the last one used.
    fn push(&mut self, frame: u64) {
        self.now += 1;
        self.times.insert(frame, self.now);
        self.uses.push_back((frame, self.now));
    }

    fn remove(&mut self, frame: u64) -> bool {
        self.times.remove(&frame).is_some()
    }

    /// Removes the frame whose last use is the longest ago.
    fn pop(&mut self) -> Option<u64> {
        while let Some((frame, time)) = self.uses.pop_front() {
            if self.times.get(&frame) == Some(&time) {
                self.times.remove(&frame);
                return Some(frame);
            }
        }
        None
    }
}

struct Lru {
    capacity: usize,
    order: Order,
}

impl Policy for Lru {
    fn is_hit(&mut self, frame: u64) -> bool {
        let hit = self.order.contains(frame);
        if !hit && self.order.len() >= self.capacity {
            self.order.pop();
        }
        self.order.push(frame);
        hit
    }
}

/// First in, first out. A frame that was used since it was added or last considered stays.
struct SecondChance {
    capacity: usize,
    used: HashMap<u64, bool>,
    order: VecDeque<u64>,
}

impl Policy for SecondChance {
    fn is_hit(&mut self, frame: u64) -> bool {
        if let Some(used) = self.used.get_mut(&frame) {
            *used = true;
            return true;
        }
        while self.order.len() >= self.capacity {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if self.used.insert(oldest, false) == Some(true) {
                self.order.push_back(oldest);
            } else {
                self.used.remove(&oldest);
            }
        }
        self.used.insert(frame, false);
        self.order.push_back(frame);
        false
    }
}

/// Johnson and Shasha, "2Q: A Low Overhead High Performance Buffer Management Replacement
/// Algorithm", 1994: a queue of a quarter of the cache for new frames, and the numbers of half as
/// many frames as the cache has that left it.
struct TwoQueues {
    capacity: usize,
    once: Order,
    often: Order,
    evicted: Order,
}

impl Policy for TwoQueues {
    fn is_hit(&mut self, frame: u64) -> bool {
        if self.often.contains(frame) {
            self.often.push(frame);
            return true;
        }
        if self.once.contains(frame) {
            return true;
        }
        if self.once.len() + self.often.len() >= self.capacity {
            if self.once.len() > self.capacity / 4 || self.often.len() == 0 {
                if let Some(old) = self.once.pop() {
                    self.evicted.push(old);
                    if self.evicted.len() > self.capacity / 2 {
                        self.evicted.pop();
                    }
                }
            } else {
                self.often.pop();
            }
        }
        if self.evicted.remove(frame) {
            self.often.push(frame);
        } else {
            self.once.push(frame);
        }
        false
    }
}

/// Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", 2003.
struct Arc {
    capacity: usize,
    /// The size that `once` should have.
    target: usize,
    once: Order,
    often: Order,
    evicted_once: Order,
    evicted_often: Order,
}

impl Arc {
    /// Evicts a frame. `often` states whether the new frame is in `evicted_often`.
    fn replace(&mut self, often: bool) {
        let len = self.once.len();
        if len > 0 && (len > self.target || often && len == self.target) {
            let old = self.once.pop();
            old.into_iter().for_each(|old| self.evicted_once.push(old));
        } else {
            let old = self.often.pop();
            old.into_iter().for_each(|old| self.evicted_often.push(old));
        }
    }
}

impl Policy for Arc {
    fn is_hit(&mut self, frame: u64) -> bool {
        if self.once.remove(frame) || self.often.contains(frame) {
            self.often.push(frame);
            return true;
        }
        let (ones, oftens) = (self.evicted_once.len(), self.evicted_often.len());
        if self.evicted_once.contains(frame) {
            self.target = (self.target + (oftens / ones).max(1)).min(self.capacity);
            self.replace(false);
            self.evicted_once.remove(frame);
            self.often.push(frame);
            return false;
        }
        if self.evicted_often.contains(frame) {
            self.target = self.target.saturating_sub((ones / oftens).max(1));
            self.replace(true);
            self.evicted_often.remove(frame);
            self.often.push(frame);
            return false;
        }
        let cached = self.once.len() + self.often.len();
        if self.once.len() + ones == self.capacity {
            if self.once.len() < self.capacity {
                self.evicted_once.pop();
                self.replace(false);
            } else {
                self.once.pop();
            }
        } else if cached + ones + oftens >= self.capacity {
            if cached + ones + oftens >= 2 * self.capacity {
                self.evicted_often.pop();
            }
            if cached >= self.capacity {
                self.replace(false);
            }
        }
        self.once.push(frame);
        false
    }
}

/// Number of frames that any policy decodes at least: that of Belady, which evicts the frame whose
/// next use is the furthest away.
pub(crate) fn least_misses(capacity: usize, trace: &[u64]) -> usize {
    let mut next = vec![usize::MAX; trace.len()];
    let mut later = HashMap::new();
    for (at, frame) in trace.iter().enumerate().rev() {
        next[at] = later.insert(*frame, at).unwrap_or(usize::MAX);
    }
    let mut cached: HashMap<u64, usize> = HashMap::new();
    let mut missed = 0;
    for (at, frame) in trace.iter().enumerate() {
        if cached.insert(*frame, next[at]).is_some() {
            continue;
        }
        missed += 1;
        if cached.len() > capacity {
            let other = cached.iter().filter(|(other, _)| *other != frame);
            let furthest = other
                .max_by_key(|(_, next)| **next)
                .map(|(other, _)| *other);
            furthest.map(|furthest| cached.remove(&furthest));
        }
    }
    missed
}

/// Number of different frames of a trace.
pub(crate) fn touched(trace: &[u64]) -> usize {
    trace.iter().collect::<HashSet<_>>().len()
}
