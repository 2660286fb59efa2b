//! Finds the cycles of a function from numbers to numbers.

/// Returns the cycles of `next`, each from its lowest number, in order of that number. Each number
/// is visited at most twice.
pub(super) fn find(next: &[Option<usize>]) -> Vec<Vec<usize>> {
    /// No walk has reached the number.
    const NEW: usize = usize::MAX;
    let mut walk_of = vec![NEW; next.len()];
    let mut cycles = Vec::new();
    for start in 0..next.len() {
        let mut at = start;
        while walk_of[at] == NEW {
            walk_of[at] = start;
            match next[at] {
                Some(to) if to < next.len() => at = to,
                _ => break,
            }
        }
        // A walk that ends at one of its own numbers, which has a successor, has found a new cycle.
        if walk_of[at] != start || next[at].is_none_or(|to| walk_of[to] != start) {
            continue;
        }
        let mut cycle = vec![at];
        let mut to = next[at];
        while let Some(number) = to.filter(|number| *number != at) {
            if cycle.len() >= next.len() || walk_of[number] != start {
                cycle.clear();
                break;
            }
            cycle.push(number);
            to = next[number];
        }
        if to != Some(at) {
            continue;
        }
        let least = cycle.iter().enumerate().min_by_key(|(_, number)| **number);
        let least = least.map_or(0, |(i, _)| i);
        cycle.rotate_left(least);
        cycles.push(cycle);
    }
    cycles.sort();
    cycles
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn chains_have_no_cycle() {
        assert!(find(&[]).is_empty());
        assert!(find(&[Some(1), Some(2), None]).is_empty());
        assert!(find(&[None, Some(0), Some(0)]).is_empty());
    }

    #[test]
    fn cycles_start_at_their_lowest_number() {
        assert_eq!(find(&[Some(0)]), [[0]]);
        // 0 leads into the cycle 2, 1, 3.
        let next = [Some(2), Some(3), Some(1), Some(2)];
        assert_eq!(find(&next), [[1, 3, 2]]);
        let next = [Some(1), Some(0), None, Some(4), Some(3), Some(3)];
        assert_eq!(find(&next), [[0, 1], [3, 4]]);
    }

    #[test]
    fn random_functions_have_the_cycles_of_a_plain_search() {
        let mut state = 1_u64;
        for _ in 0..200 {
            let next: Vec<Option<usize>> = (0..9)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let to = (state >> 33) as usize % 10;
                    (to < 9).then_some(to)
                })
                .collect();
            // A number is in a cycle if it returns to itself.
            let mut on_cycle: Vec<usize> = (0..9)
                .filter(|start| {
                    let mut at = next[*start];
                    (0..9).any(|_| {
                        let here = at == Some(*start);
                        at = at.and_then(|at| next[at]);
                        here
                    })
                })
                .collect();
            let mut found = find(&next).concat();
            on_cycle.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, on_cycle, "{next:?}");
        }
    }
}
