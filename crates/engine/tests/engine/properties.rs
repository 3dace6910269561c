//! Any mix of requests, in an engine that is short of anything, gets what each request gets alone; and the books and the
//! backend's memory agree while it runs.

use perch_engine::testing::{Conformance, FakeBackend, FakeModel, Job, Probe, Workload};
use perch_engine::{EngineConfig, GenerateRequest, Limits, Sampling};
use proptest::prelude::*;

fn limits() -> impl Strategy<Value = Limits> {
    (2usize..9, prop::sample::select(vec![5usize, 40]), 30usize..90, 1usize..4, any::<bool>()).prop_map(
        |(block_tokens, vocab_size, context_length, kv_bytes_per_token, shares_blocks)| Limits {
            vocab_size,
            context_length,
            block_tokens,
            kv_bytes_per_token,
            shares_blocks,
        },
    )
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let pick = prop::sample::select::<f32>;
    (
        pick(vec![0.0, 0.8, 1.5]),
        prop::sample::select(vec![0usize, 3]),
        (pick(vec![1.0, 0.8]), pick(vec![0.0, 0.1])),
        (pick(vec![1.0, 1.3]), pick(vec![0.0, 0.5]), pick(vec![0.0, 0.3])),
        any::<u64>(),
    )
        .prop_map(|(temperature, top_k, (top_p, min_p), penalties, seed)| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty: penalties.0,
            presence_penalty: penalties.1,
            frequency_penalty: penalties.2,
            logit_bias: vec![(1, 0.5)],
            seed: Some(seed),
        })
}

/// Requests of which many share a prefix: each prompt is some of one of two texts, and a tail of its own.
fn job(vocab: u32) -> impl Strategy<Value = Job> {
    let tail = prop::collection::vec(0..vocab, 0..6);
    (
        (0usize..15, 0u32..2, 1usize..40, tail),
        (prop_oneof![0usize..12, 30usize..80], 1usize..4, 0u64..2),
        (prop::option::weighted(0.2, 0usize..12), prop::option::weighted(0.3, 0..vocab)),
        sampling(),
    )
        .prop_map(
            move |((arrives, text, len, tail), (max_tokens, n, salt), (cancelled_after, stop), sampling)| {
                let mut prompt: Vec<u32> = (0..len as u32).map(|i| (i * i * 7 + i + text) % vocab).collect();
                prompt.extend(tail);
                let mut request = GenerateRequest::new(prompt, max_tokens);
                request.n = n;
                request.cache_salt = salt;
                request.stop_tokens = stop.into_iter().collect();
                request.sampling = sampling;
                Job { arrives, request, cancelled_after }
            },
        )
}

fn workload() -> impl Strategy<Value = (Limits, Workload)> {
    limits().prop_flat_map(|limits| {
        let jobs = prop::collection::vec(job(limits.vocab_size as u32), 1..9);
        let sizes = (1usize..7, prop::sample::select(vec![1usize, 2, 5, 16, 200]), 50u64..300, 0u64..101);
        (Just(limits), jobs, sizes).prop_map(|(limits, jobs, sizes)| {
            let (max_sequences, max_batch_tokens, budget, cached) = sizes;
            let kv_budget_bytes = budget * limits.kv_bytes_per_token as u64;
            let config = EngineConfig {
                max_sequences,
                max_batch_tokens,
                kv_budget_bytes,
                prefix_cache_bytes: kv_budget_bytes * cached / 100,
                ..EngineConfig::default()
            };
            (limits, Workload { config, jobs })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn every_request_gets_what_it_gets_alone((limits, workload) in workload()) {
        let probe = Probe::default();
        let model = FakeModel { limits, ..FakeModel::default() };
        let make = || FakeBackend::new(model.clone(), probe.clone());
        let outcome = workload.check(make, 0.0);
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }

    #[test]
    fn a_backend_that_draws_gives_every_request_the_same((limits, workload) in workload()) {
        let model = FakeModel { limits, draws: true, ..FakeModel::default() };
        let outcome = workload.check(|| FakeBackend::new(model.clone(), Probe::default()), 0.0);
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }

    #[test]
    fn the_backend_never_holds_more_than_the_budget((limits, workload) in workload()) {
        let budget = workload.config.kv_budget_bytes;
        let model = FakeModel { limits, ..FakeModel::default() };
        let probe = Probe::default();
        let outcome = workload.check(|| FakeBackend::new(model.clone(), probe.clone()), 0.0);
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        prop_assert!(probe.peak_bytes() <= budget, "{} of {budget} bytes", probe.peak_bytes());
        prop_assert_eq!(probe.sequences(), 0);
    }

    #[test]
    fn a_backend_with_less_memory_than_the_budget_serves_what_fits(
        (limits, workload) in workload(),
        percent in 60u64..100,
    ) {
        let memory = (workload.config.kv_budget_bytes * percent / 100)
            .max(limits.context_length as u64 * limits.kv_bytes_per_token as u64);
        let model = FakeModel { limits, memory_bytes: Some(memory), ..FakeModel::default() };
        let outcome = workload.check(|| FakeBackend::new(model.clone(), Probe::default()), 0.0);
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}

#[test]
fn the_fake_backend_keeps_the_contract_whether_it_copies_or_shares_blocks() {
    for (shares_blocks, draws) in [(false, false), (true, false), (false, true)] {
        let limits = Limits { shares_blocks, ..FakeModel::default().limits };
        let model = FakeModel { limits, draws, ..FakeModel::default() };
        Conformance::new(|| FakeBackend::new(model.clone(), Probe::default()), 0.0).all(40);
    }
}

#[test]
fn the_random_workloads_put_everything_to_the_test() {
    let mut seen = [0; 4];
    for seed in 0..120 {
        let limits = Limits { shares_blocks: seed % 2 == 0, ..FakeModel::default().limits };
        let model = FakeModel { limits, ..FakeModel::default() };
        let workload = Workload::random(seed, &model.limits, false);
        let stats = workload.check(|| FakeBackend::new(model.clone(), Probe::default()), 0.0).unwrap();
        let counts = [stats.preemptions, stats.prefix_hit_tokens, stats.cancelled, stats.finished];
        seen.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    assert!(seen.iter().all(|&n| n > 20), "preemptions, cached tokens, cancelled, finished: {seen:?}");
}
