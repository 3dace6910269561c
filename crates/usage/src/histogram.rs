//! Times as buckets: exact below 32 ms, and sixteen to each doubling above, so that the middle of a bucket is at most 3 %
//! away from anything in it.

use perch_protocol::Percentiles;

/// Buckets of one millisecond each.
const EXACT: u64 = 32;
/// Buckets of each doubling, as a power of two.
const BITS: u32 = 4;
/// Longer times (35 years) count as this.
const LONGEST: u64 = 1 << 40;

/// The bucket of a time in milliseconds.
pub(crate) fn bucket(ms: u64) -> u32 {
    let ms = ms.min(LONGEST);
    if ms < EXACT {
        return ms as u32;
    }
    let doubling = ms.ilog2();
    let within = (ms >> (doubling - BITS)) as u32 & ((1 << BITS) - 1);
    EXACT as u32 + ((doubling - EXACT.ilog2()) << BITS) + within
}

/// The middle of a bucket in milliseconds.
pub(crate) fn middle(bucket: u32) -> u64 {
    let Some(above) = bucket.checked_sub(EXACT as u32) else { return bucket.into() };
    let shift = ((above >> BITS) + EXACT.ilog2() - BITS).min(LONGEST.ilog2());
    let within = u64::from(above & ((1 << BITS) - 1));
    let low = ((1 << BITS) + within) << shift;
    low + ((1 << shift) - 1) / 2
}

/// Percentiles of buckets in ascending order, each with its count; `None` without any.
pub(crate) fn percentiles(buckets: &[(u32, u64)]) -> Option<Percentiles> {
    let all: u64 = buckets.iter().map(|(_, count)| count).sum();
    let at = |percent: u64| {
        // The nearest rank: the smallest time that so many are not above.
        let rank = (all * percent).div_ceil(100);
        let mut seen = 0;
        buckets.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| middle(*bucket))
        })
    };
    if all == 0 {
        return None;
    }
    Some(Percentiles { p50: at(50)?, p95: at(95)?, p99: at(99)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn of(times: &[u64]) -> Option<Percentiles> {
        let mut counts = BTreeMap::new();
        for ms in times {
            *counts.entry(bucket(*ms)).or_default() += 1;
        }
        percentiles(&counts.into_iter().collect::<Vec<_>>())
    }

    fn close(found: u64, exact: u64) -> bool {
        found.abs_diff(exact) as f64 <= exact as f64 * 0.032
    }

    #[test]
    fn short_times_are_exact() {
        let times: Vec<u64> = (0..=31).collect();
        assert_eq!(of(&times), Some(Percentiles { p50: 15, p95: 30, p99: 31 }));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn no_time_is_too_long() {
        assert!(close(middle(bucket(LONGEST)), LONGEST));
        assert_eq!(bucket(u64::MAX), bucket(LONGEST));
        assert_eq!(bucket(LONGEST), 592);
        // What a damaged file says is no panic.
        let _ = middle(u32::MAX);
    }

    proptest! {
        #[test]
        fn a_bucket_is_close_to_its_times_and_later_times_have_later_buckets(ms in 0..LONGEST) {
            prop_assert!(close(middle(bucket(ms)), ms), "{ms} {}", middle(bucket(ms)));
            prop_assert!(bucket(ms) <= bucket(ms + 1));
        }

        #[test]
        fn percentiles_are_those_of_the_sorted_times(mut times in prop::collection::vec(0..4_000_000u64, 1..300)) {
            let found = of(&times).unwrap();
            times.sort_unstable();
            let exact = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
            for (found, percent) in [(found.p50, 50), (found.p95, 95), (found.p99, 99)] {
                prop_assert!(close(found, exact(percent)), "{percent}: {found}, not {}", exact(percent));
            }
        }
    }
}
