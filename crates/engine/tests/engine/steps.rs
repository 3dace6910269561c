//! What happens in which step: fairness, sharing, memory, cancellation. The engine is stepped by hand.

use crate::common::*;
use perch_engine::testing::{FakeModel, sequential};
use perch_engine::{EngineConfig, Event, FinishReason, Sampling};

/// Tokens that all passes have run.
fn tokens_run(probe: &perch_engine::testing::Probe) -> usize {
    probe.batches().iter().flatten().map(|run| run.2).sum()
}

#[test]
fn a_running_stream_gets_a_token_in_every_step_while_long_prompts_prefill() {
    let (mut driver, probe) = driver(model(true), config(4000, 32));
    let mut stream = driver.submit(request(prompt(1, 5), 60)).unwrap();
    driver.step().unwrap();
    arrived(&mut stream);
    let long: Vec<_> = (2..5).map(|kind| driver.submit(request(prompt(kind, 320), 2)).unwrap()).collect();
    for step in 0..40 {
        driver.step().unwrap();
        assert_eq!(
            tokens_of(&arrived(&mut stream), 0).len(),
            1,
            "in step {step} beside {} prompts",
            long.len()
        );
    }
    let most = probe.batches().iter().map(|b| b.iter().map(|run| run.2).sum::<usize>()).max();
    assert_eq!(most, Some(32), "steps fill the token budget and never exceed it");
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one() {
    let (mut driver, _) = driver(model(true), config(4000, 32));
    let _long = driver.submit(request(prompt(1, 1000), 2)).unwrap();
    driver.step().unwrap();
    let mut short = driver.submit(request(prompt(2, 10), 2)).unwrap();
    driver.step().unwrap();
    assert_eq!(tokens_of(&arrived(&mut short), 0).len(), 1);
}

#[test]
fn the_oldest_prompt_gets_on_however_many_short_ones_come() {
    let (mut driver, _) = driver(model(true), config(4000, 32));
    let mut long = driver.submit(request(prompt(1, 320), 1)).unwrap();
    let mut short = Vec::new();
    for step in 0..20 {
        short.push(driver.submit(request(prompt(2 + step, 31), 1)).unwrap());
        driver.step().unwrap();
    }
    assert_eq!(tokens_of(&arrived(&mut long), 0).len(), 1, "half of each step is the oldest prompt's");
}

#[test]
fn a_big_request_is_not_passed_by_small_ones_for_ever() {
    let (mut driver, _) = driver(model(true), EngineConfig { prefix_cache_bytes: 0, ..config(300, 512) });
    let mut small = Vec::new();
    let mut big = None;
    for step in 0..600 {
        // Each runs for 30 steps, so that there are always some, and never room for the big one beside them.
        if step % 10 == 0 {
            small.push(driver.submit(request(prompt(step, 60), 30)).unwrap());
        }
        if step == 25 {
            big = Some(driver.submit(request(prompt(9, 250), 5)).unwrap());
        }
        driver.step().unwrap();
        if big.as_mut().is_some_and(|big| !arrived(big).is_empty()) {
            let done = small.iter_mut().map(arrived).filter(|e| tokens_of(e, 0).len() == 30).count();
            assert!(done > 5, "small ones may pass it at first");
            return;
        }
    }
    panic!("the big request never began");
}

#[test]
fn a_prompt_that_fits_only_without_copies_of_its_cached_blocks_is_still_answered() {
    let (mut driver, probe) =
        driver(model(false), EngineConfig { prefix_cache_bytes: 100, ..config(100, 64) });
    run(&mut driver, request(prompt(1, 60), 2));
    let events = run(&mut driver, request(prompt(1, 90), 2));
    assert_eq!(tokens_of(&events, 0).len(), 2);
    assert!(probe.peak_bytes() <= 100);
}

#[test]
fn the_next_turn_of_a_chat_prefills_only_what_is_new() {
    for shares_blocks in [false, true] {
        let (mut driver, probe) = driver(model(shares_blocks), config(4000, 512));
        let mut chat = prompt(1, 100);
        let events = run(&mut driver, request(chat.clone(), 20));
        assert_eq!(cached(&events), 0);
        chat.extend(tokens_of(&events, 0));
        chat.extend(prompt(5, 9));
        let before = tokens_run(&probe);
        let events = run(&mut driver, request(chat.clone(), 1));
        // 119 tokens were computed (the last one generated was not): 7 blocks of 16.
        assert_eq!(cached(&events), 112);
        assert_eq!(tokens_run(&probe) - before, chat.len() - 112);
    }
}

#[test]
fn the_last_prompt_token_is_always_computed() {
    let (mut driver, _) = driver(model(true), config(4000, 512));
    run(&mut driver, request(prompt(1, 65), 1));
    for len in [64, 48, 17, 16] {
        let expected = (len - 1) / 16 * 16;
        assert_eq!(cached(&run(&mut driver, request(prompt(1, len), 1))), expected, "of {len} tokens");
    }
}

#[test]
fn requests_with_another_salt_share_nothing() {
    let (mut driver, _) = driver(model(true), config(4000, 512));
    run(&mut driver, request(prompt(1, 65), 1));
    let mut salted = request(prompt(1, 65), 1);
    salted.cache_salt = 1;
    assert_eq!(cached(&run(&mut driver, salted.clone())), 0);
    assert_eq!(cached(&run(&mut driver, salted)), 64);
}

#[test]
fn requests_that_arrive_together_compute_their_common_prefix_once() {
    for shares_blocks in [false, true] {
        let (mut driver, probe) = driver(model(shares_blocks), config(4000, 64));
        let mut streams: Vec<_> = (0..5)
            .map(|tail| driver.submit(request([prompt(1, 160), vec![tail, 3, tail]].concat(), 1)).unwrap())
            .collect();
        finish(&mut driver);
        assert_eq!(tokens_run(&probe), 160 + 5 * 3);
        let hits: Vec<usize> = streams.iter_mut().map(|s| cached(&arrived(s))).collect();
        assert_eq!(hits, [0, 160, 160, 160, 160]);
    }
}

#[test]
fn a_request_that_waits_for_a_prefix_goes_ahead_when_its_leader_is_cancelled() {
    let (mut driver, _) = driver(model(true), config(4000, 32));
    let leader = driver.submit(request(prompt(1, 320), 1)).unwrap();
    driver.step().unwrap();
    let mut follower = driver.submit(request(prompt(1, 330), 1)).unwrap();
    driver.step().unwrap();
    drop(leader);
    finish(&mut driver);
    let events = arrived(&mut follower);
    assert!(cached(&events) >= 32, "what the leader had computed is not lost");
    assert_eq!(tokens_of(&events, 0).len(), 1);
}

#[test]
fn n_choices_share_one_prefill() {
    for shares_blocks in [false, true] {
        let (mut driver, probe) = driver(model(shares_blocks), config(4000, 512));
        let mut four = request(prompt(1, 100), 5);
        (four.n, four.sampling) = (4, Sampling { seed: Some(3), ..Sampling::default() });
        let events = run(&mut driver, four);
        assert_eq!(tokens_run(&probe), 100 + 4 * 4);
        let texts: Vec<_> = (0..4).map(|choice| tokens_of(&events, choice)).collect();
        assert!(texts.iter().all(|t| t.len() == 5) && texts[0] != texts[1]);
        let finished = events.iter().filter(|e| matches!(e, Event::Finished { .. })).count();
        assert_eq!(finished, 4);
    }
}

#[test]
fn choices_beyond_the_places_run_one_after_another() {
    let (mut driver, _) = driver(model(true), EngineConfig { max_sequences: 2, ..config(4000, 512) });
    let mut five = request(prompt(1, 40), 6);
    five.n = 5;
    let events = run(&mut driver, five);
    let alone = run(&mut driver, request(prompt(1, 40), 6));
    for choice in 0..5 {
        assert_eq!(tokens_of(&events, choice), tokens_of(&alone, 0), "greedy choices are all alike");
    }
}

#[test]
fn a_dropped_stream_frees_its_memory_within_one_step() {
    for shares_blocks in [false, true] {
        let (mut driver, probe) =
            driver(model(shares_blocks), EngineConfig { prefix_cache_bytes: 0, ..config(4000, 32) });
        let mut kept = driver.submit(request(prompt(1, 8), 50)).unwrap();
        let dropped = driver.submit(request(prompt(2, 500), 50)).unwrap();
        driver.step().unwrap();
        assert_eq!(probe.sequences(), 2);
        drop(dropped);
        driver.step().unwrap();
        assert_eq!((probe.sequences(), driver.stats().cancelled), (1, 1));
        finish(&mut driver);
        assert_eq!(tokens_of(&arrived(&mut kept), 0).len(), 50);
        assert_eq!((probe.sequences(), probe.used_bytes()), (0, 0));
    }
}

#[test]
fn preempted_sequences_go_on_as_if_nothing_had_happened() {
    for (shares_blocks, cache) in [(false, 0), (true, 0), (false, 400), (true, 400)] {
        let config = EngineConfig { prefix_cache_bytes: cache, ..config(400, 64) };
        let (mut driver, probe) = driver(model(shares_blocks), config);
        let requests: Vec<_> = (0..4).map(|kind| request(prompt(kind, 20), 150)).collect();
        let mut streams: Vec<_> = requests.iter().map(|r| driver.submit(r.clone()).unwrap()).collect();
        finish(&mut driver);
        assert!(driver.stats().preemptions > 0);
        assert!(probe.peak_bytes() <= 400);
        let mut alone = perch_engine::testing::FakeBackend::new(FakeModel::default(), Default::default());
        for (request, stream) in requests.iter().zip(&mut streams) {
            let expected = sequential(&mut alone, driver.limits(), request).unwrap();
            assert_eq!(tokens_of(&arrived(stream), 0), expected[0].tokens);
        }
    }
}

#[test]
fn preemption_takes_the_latest_and_never_the_oldest() {
    let (mut driver, _) = driver(model(true), EngineConfig { prefix_cache_bytes: 0, ..config(200, 64) });
    let mut streams: Vec<_> =
        (0..3).map(|kind| driver.submit(request(prompt(kind, 20), 150)).unwrap()).collect();
    let mut gaps = 0;
    while !driver.is_idle() && gaps == 0 {
        driver.step().unwrap();
        let got: Vec<usize> = streams.iter_mut().map(|s| tokens_of(&arrived(s), 0).len()).collect();
        assert!(got[0] <= 1);
        gaps += usize::from(got[0] == 0);
    }
    let stats = driver.stats();
    assert!(stats.finished >= 1, "the oldest had a token in every step until it was finished");
    assert!(stats.preemptions > 0);
}

#[test]
fn cached_blocks_give_way_to_running_sequences() {
    for shares_blocks in [false, true] {
        let config = EngineConfig { prefix_cache_bytes: 200, ..config(200, 64) };
        let (mut driver, probe) = driver(model(shares_blocks), config);
        run(&mut driver, request(prompt(1, 100), 1));
        assert!(driver.stats().prefix_cache_blocks >= 5);
        let events = run(&mut driver, request(prompt(2, 100), 100));
        assert_eq!(tokens_of(&events, 0).len(), 100);
        assert_eq!(driver.stats().preemptions, 0);
        assert!(probe.peak_bytes() <= 200);
    }
}

#[test]
fn the_prefix_cache_keeps_to_its_own_bound() {
    for shares_blocks in [false, true] {
        let config = EngineConfig { prefix_cache_bytes: 100, ..config(4000, 64) };
        let (mut driver, probe) = driver(model(shares_blocks), config);
        for kind in 0..5 {
            run(&mut driver, request(prompt(kind, 90), 20));
            assert!(probe.blocks() <= 6, "6 blocks of 16 tokens fit 100 bytes");
            assert_eq!(probe.blocks(), driver.stats().prefix_cache_blocks);
        }
    }
}

#[test]
fn a_choice_ends_where_the_context_does() {
    let (mut driver, _) = driver(model(true), EngineConfig { context_length: Some(50), ..config(4000, 64) });
    let events = run(&mut driver, request(prompt(1, 45), usize::MAX));
    assert_eq!(tokens_of(&events, 0).len(), 5);
    let end = Event::Finished { choice: 0, reason: FinishReason::Length, generated: 5 };
    assert_eq!(events.last(), Some(&end));
}

#[test]
fn no_new_tokens_means_a_prefill_and_an_end() {
    let (mut driver, _) = driver(model(true), config(4000, 64));
    let mut none = request(prompt(1, 80), 0);
    none.n = 2;
    let events = run(&mut driver, none);
    let finished = |choice| Event::Finished { choice, reason: FinishReason::Length, generated: 0 };
    assert_eq!(events[1..], [finished(1), finished(0)]);
    assert_eq!(cached(&run(&mut driver, request(prompt(1, 80), 1))), 64, "it has warmed the cache");
}

#[test]
fn a_stop_token_ends_a_choice_and_is_not_sent() {
    let (mut driver, _) = driver(model(true), config(4000, 64));
    let text = tokens_of(&run(&mut driver, request(prompt(1, 10), 20)), 0);
    let mut stopped = request(prompt(1, 10), 20);
    stopped.stop_tokens = vec![text[4]];
    let first = text.iter().position(|t| *t == text[4]).unwrap();
    let events = run(&mut driver, stopped);
    assert_eq!(tokens_of(&events, 0), text[..first]);
    let end = Event::Finished { choice: 0, reason: FinishReason::Stop(text[4]), generated: first + 1 };
    assert_eq!(events.last(), Some(&end));
}
