//! What a request gets: errors that are its own, log-probabilities, constraints.

use crate::common::*;
use perch_engine::testing::{FakeModel, Fault};
use perch_engine::{
    Constraint, ConstraintFactory, EngineConfig, EngineError, Event, FinishReason, Sampling, TokenMask,
};

#[test]
fn a_prompt_beyond_the_context_is_refused_with_both_numbers() {
    let (mut driver, _) = driver(model(true), EngineConfig { context_length: Some(50), ..config(4000, 64) });
    let error = driver.submit(request(prompt(1, 50), 1)).unwrap_err();
    assert_eq!(error, EngineError::ContextLength { prompt: 50, context: 50 });
    assert!(error.to_string().contains("50 tokens"));
    assert!(driver.submit(request(prompt(1, 49), 1)).is_ok());
    assert!(driver.submit(request(prompt(1, 50), 0)).is_ok(), "a prompt alone may fill the context");
}

#[test]
fn a_prompt_beyond_the_kv_budget_is_refused_with_both_sizes() {
    let (mut driver, _) = driver(model(true), config(200, 64));
    let error = driver.submit(request(prompt(1, 200), 1)).unwrap_err();
    assert_eq!(error, EngineError::KvBudget { needed: 201, budget: 200 });
    let events = run(&mut driver, request(prompt(1, 199), 50));
    assert_eq!(tokens_of(&events, 0).len(), 1, "the answer is cut to what the budget holds");
}

#[test]
fn parameters_out_of_range_are_refused_by_name() {
    let (mut driver, _) = driver(model(true), config(4000, 64));
    let mut refusal = |change: fn(&mut perch_engine::GenerateRequest)| {
        let mut bad = request(prompt(1, 5), 5);
        change(&mut bad);
        match driver.submit(bad) {
            Err(EngineError::Invalid(message)) => message,
            other => panic!("must be refused, not {other:?}"),
        }
    };
    assert!(refusal(|r| r.prompt.clear()).contains("prompt is empty"));
    assert!(refusal(|r| r.prompt.push(64)).contains("token 64 is outside the vocabulary of 64"));
    assert!(refusal(|r| r.n = 0).contains("n must"));
    assert!(refusal(|r| r.n = 1000).contains("n must"));
    assert!(refusal(|r| r.logprobs = Some(1000)).contains("log-probabilities"));
    assert!(refusal(|r| r.sampling.temperature = f32::NAN).contains("temperature"));
    assert!(refusal(|r| r.sampling.temperature = -1.0).contains("temperature"));
    assert!(refusal(|r| r.sampling.top_p = 0.0).contains("top_p"));
    assert!(refusal(|r| r.sampling.min_p = 2.0).contains("min_p"));
    assert!(refusal(|r| r.sampling.repetition_penalty = 0.0).contains("repetition_penalty"));
    assert!(refusal(|r| r.sampling.frequency_penalty = f32::INFINITY).contains("frequency_penalty"));
    assert!(refusal(|r| r.sampling.presence_penalty = f32::NAN).contains("presence_penalty"));
    assert!(refusal(|r| r.sampling.logit_bias = vec![(99, 1.0)]).contains("token 99"));
    assert!(refusal(|r| r.sampling.logit_bias = vec![(9, f32::NAN)]).contains("token 9"));
}

#[test]
fn a_request_that_the_backend_refuses_fails_alone() {
    let model = FakeModel { poison: Some(63), ..model(true) };
    let (mut driver, _) = driver(model, config(4000, 64));
    let expected = run(&mut driver, request(prompt(1, 10), 20));
    let mut good = driver.submit(request(prompt(1, 10), 20)).unwrap();
    driver.step().unwrap();
    let mut bad = driver.submit(request([prompt(2, 5), vec![63]].concat(), 5)).unwrap();
    let mut other = driver.submit(request(prompt(3, 5), 5)).unwrap();
    finish(&mut driver);
    let error = arrived(&mut bad);
    assert!(matches!(&error[..], [Event::Failed(EngineError::Backend(m))] if m.contains("63")), "{error:?}");
    assert_eq!(tokens_of(&arrived(&mut good), 0), tokens_of(&expected, 0));
    assert_eq!(tokens_of(&arrived(&mut other), 0).len(), 5);
}

#[test]
fn a_pass_that_runs_out_of_memory_is_tried_again_with_less() {
    let faults = vec![(2, Fault::OutOfMemory), (3, Fault::OutOfMemory), (9, Fault::OutOfMemory)];
    let (mut driver, _) = driver(FakeModel { faults, ..model(false) }, config(4000, 64));
    let mut streams: Vec<_> =
        (0..4).map(|kind| driver.submit(request(prompt(kind, 30), 20)).unwrap()).collect();
    finish(&mut driver);
    assert!(streams.iter_mut().all(|s| tokens_of(&arrived(s), 0).len() == 20));
}

#[test]
fn a_sequence_that_cannot_be_opened_for_want_of_memory_waits_its_turn() {
    let (mut driver, _) = driver(FakeModel { memory_bytes: Some(110), ..model(false) }, config(4000, 64));
    let expected = tokens_of(&run(&mut driver, request(prompt(1, 50), 5)), 0);
    assert_eq!(driver.stats().prefix_cache_blocks, 3);
    // Each copies 48 cached tokens when it is opened, beside the 48 in the cache.
    let mut streams: Vec<_> = (0..3).map(|_| driver.submit(request(prompt(1, 50), 5)).unwrap()).collect();
    finish(&mut driver);
    assert!(streams.iter_mut().all(|s| tokens_of(&arrived(s), 0) == expected));
}

#[test]
fn memory_that_was_short_is_used_again_when_the_engine_has_rested() {
    let faults = vec![(3, Fault::OutOfMemory)];
    let config = EngineConfig { prefix_cache_bytes: 0, ..config(400, 64) };
    let (mut driver, probe) = driver(FakeModel { faults, ..model(false) }, config);
    let mut streams: Vec<_> =
        (0..2).map(|kind| driver.submit(request(prompt(kind, 20), 60)).unwrap()).collect();
    finish(&mut driver);
    assert!(streams.iter_mut().all(|s| tokens_of(&arrived(s), 0).len() == 60));
    assert!(driver.stats().preemptions <= 3, "the one that is left grows without starting over");
    let passes = probe.batches();
    assert!(passes[6..].iter().all(|batch| batch.len() == 1), "while memory is short they run one by one");

    let both: Vec<_> = (0..2).map(|kind| driver.submit(request(prompt(kind, 20), 60)).unwrap()).collect();
    driver.step().unwrap();
    assert_eq!(probe.batches().last().map(Vec::len), Some(both.len()));
}

#[test]
fn a_request_that_has_all_memory_and_needs_more_fails_with_that() {
    let model = FakeModel { memory_bytes: Some(50), ..model(false) };
    let (mut driver, _) = driver(model, config(4000, 64));
    let events = run(&mut driver, request(prompt(1, 40), 40));
    assert!(matches!(events.last(), Some(Event::Failed(EngineError::Backend(m))) if m.contains("memory")));
    assert_eq!(tokens_of(&events, 0).len(), 11, "what fitted was answered");
    assert_eq!(tokens_of(&run(&mut driver, request(prompt(2, 30), 10)), 0).len(), 10);
}

#[test]
fn logits_that_are_not_numbers_are_an_error_and_not_a_token() {
    let (mut driver, _) =
        driver(FakeModel { faults: vec![(3, Fault::Nan)], ..model(true) }, config(4000, 64));
    let events = run(&mut driver, request(prompt(1, 4), 20));
    assert!(matches!(events.last(), Some(Event::Failed(EngineError::Backend(m))) if m.contains("finite")));
    assert_eq!(tokens_of(&events, 0).len(), 3);
}

/// The fake model's log-probabilities after `tokens`, by the textbook formula in f64.
fn log_softmax(tokens: &[u32]) -> Vec<f64> {
    use perch_engine::{Backend, Run, SeqId, Wanted};
    let mut backend = perch_engine::testing::FakeBackend::new(FakeModel::default(), Default::default());
    backend.open(SeqId(0), &[]).unwrap();
    let run = Run { seq: SeqId(0), tokens, position: 0, wanted: Wanted::Last };
    let row = backend.forward(&[run]).unwrap();
    let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
    row.iter().map(|&x| f64::from(x) - total.ln()).collect()
}

#[test]
fn log_probabilities_are_the_models_own_whatever_the_sampling() {
    let (mut driver, _) = driver(model(true), config(4000, 64));
    let mut wanted = request(prompt(1, 10), 6);
    wanted.logprobs = Some(3);
    wanted.sampling =
        Sampling { temperature: 0.5, top_k: 4, frequency_penalty: 1.0, seed: Some(5), ..Sampling::default() };
    let events = run(&mut driver, wanted);
    let mut tokens = prompt(1, 10);
    let mut seen = 0;
    for event in &events {
        let Event::Token { id, logprobs: Some(probs), .. } = event else { continue };
        let expected = log_softmax(&tokens);
        let mut best: Vec<u32> = (0..64).collect();
        best.sort_by(|&a, &b| expected[b as usize].total_cmp(&expected[a as usize]));
        assert!((f64::from(probs.chosen) - expected[*id as usize]).abs() < 1e-5);
        assert_eq!(probs.top.iter().map(|t| t.0).collect::<Vec<_>>(), best[..3]);
        assert!(probs.top.iter().all(|(t, p)| (f64::from(*p) - expected[*t as usize]).abs() < 1e-5));
        tokens.push(*id);
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn prompt_log_probabilities_cover_every_token_after_the_first_even_when_cached() {
    let (mut driver, _) = driver(model(true), config(4000, 50));
    run(&mut driver, request(prompt(1, 100), 1));
    let mut wanted = request(prompt(1, 100), 1);
    wanted.prompt_logprobs = Some(1);
    let events = run(&mut driver, wanted);
    let Event::Prefilled { cached_tokens: 0, prompt_logprobs } = &events[0] else { panic!("{events:?}") };
    assert_eq!(prompt_logprobs.len(), 99);
    for (i, probs) in prompt_logprobs.iter().enumerate() {
        let expected = log_softmax(&prompt(1, 100)[..=i]);
        let token = prompt(1, 100)[i + 1];
        assert!((f64::from(probs.chosen) - expected[token as usize]).abs() < 1e-5, "token {}", i + 1);
    }
}

#[test]
fn prompt_log_probabilities_are_whole_after_a_preemption() {
    // One prompt token per step beside the first request, which outgrows the room left for it before the end.
    let (mut driver, _) = driver(model(true), EngineConfig { prefix_cache_bytes: 0, ..config(215, 2) });
    let mut first = driver.submit(request(prompt(1, 20), 180)).unwrap();
    while driver.stats().kv_used_bytes < 80 {
        driver.step().unwrap();
    }
    let mut scored = request(prompt(2, 70), 60);
    scored.prompt_logprobs = Some(0);
    let mut scored = driver.submit(scored).unwrap();
    while driver.stats().preemptions == 0 {
        driver.step().unwrap();
    }
    assert_eq!(arrived(&mut scored), [], "it has been preempted in the middle of its prompt");
    finish(&mut driver);
    let events = arrived(&mut scored);
    let Event::Prefilled { prompt_logprobs, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!(prompt_logprobs.len(), 69);
    assert_eq!(tokens_of(&arrived(&mut first), 0).len(), 180);
}

#[test]
fn cached_tokens_are_those_found_when_the_request_first_began() {
    let (mut driver, _) = driver(model(true), EngineConfig { prefix_cache_bytes: 215, ..config(215, 2) });
    let _first = driver.submit(request(prompt(1, 20), 180)).unwrap();
    while driver.stats().kv_used_bytes < 80 {
        driver.step().unwrap();
    }
    let mut second = driver.submit(request(prompt(2, 70), 60)).unwrap();
    while driver.stats().preemptions == 0 {
        driver.step().unwrap();
    }
    assert_eq!(arrived(&mut second), []);
    finish(&mut driver);
    assert_eq!(cached(&arrived(&mut second)), 0, "what it computed itself is not counted");
}

/// Allows only ascending tokens, and is complete at `last`.
struct Ascending {
    next: u32,
    last: u32,
    mask: TokenMask,
}

impl Constraint for Ascending {
    fn allowed(&mut self) -> Result<Option<&TokenMask>, String> {
        self.mask = TokenMask::none(64);
        (self.next..64).for_each(|token| self.mask.allow(token));
        Ok(Some(&self.mask))
    }

    fn accept(&mut self, token: u32) -> Result<(), String> {
        if token == 63 {
            return Err("63 is no part of the text".to_owned());
        }
        self.next = token + 1;
        Ok(())
    }

    fn finished(&self) -> bool {
        self.next > self.last
    }
}

fn ascending(next: u32, last: u32) -> Option<ConstraintFactory> {
    Some(ConstraintFactory::new(move || Ok(Box::new(Ascending { next, last, mask: TokenMask::default() }))))
}

#[test]
fn a_constraint_holds_for_every_choice_and_ends_it_when_complete() {
    let (mut driver, _) = driver(model(true), config(4000, 64));
    let mut constrained = request(prompt(1, 10), 64);
    (constrained.n, constrained.constraint) = (3, ascending(1, 50));
    constrained.sampling = Sampling { seed: Some(1), ..Sampling::default() };
    let events = run(&mut driver, constrained);
    for choice in 0..3 {
        let text = tokens_of(&events, choice);
        assert!(text.is_sorted_by(|a, b| a < b), "{text:?}");
        assert!(*text.last().unwrap() >= 50);
        let end = Event::Finished { choice, reason: FinishReason::Complete, generated: text.len() };
        assert!(events.contains(&end));
    }
}

#[test]
fn a_constraint_is_not_told_of_the_stop_token() {
    let (mut driver, _) = driver(model(true), config(4000, 64));
    let mut constrained = request(prompt(1, 10), 64);
    (constrained.stop_tokens, constrained.constraint) = (vec![63], ascending(63, 70));
    let events = run(&mut driver, constrained);
    let end = Event::Finished { choice: 0, reason: FinishReason::Stop(63), generated: 1 };
    assert_eq!(events.last(), Some(&end));
}

#[test]
fn a_constraint_that_allows_nothing_fails_errs_or_panics_ends_its_own_request_only() {
    struct Panics;
    impl Constraint for Panics {
        fn allowed(&mut self) -> Result<Option<&TokenMask>, String> {
            panic!("a broken grammar")
        }
        fn accept(&mut self, _: u32) -> Result<(), String> {
            Ok(())
        }
        fn finished(&self) -> bool {
            false
        }
    }
    let (mut driver, _) = driver(model(true), config(4000, 64));
    let mut good = driver.submit(request(prompt(1, 10), 20)).unwrap();
    let constraints = [
        (ascending(64, 99).unwrap(), "allows no token"),
        (ConstraintFactory::new(|| Err("no such grammar".to_owned())), "no such grammar"),
        (ConstraintFactory::new(|| Ok(Box::new(Panics))), "panicked"),
    ];
    for (constraint, message) in constraints {
        let mut bad = request(prompt(2, 10), 20);
        bad.constraint = Some(constraint);
        let mut stream = driver.submit(bad).unwrap();
        (0..3).for_each(|_| driver.step().unwrap());
        let error = arrived(&mut stream).pop();
        assert!(
            matches!(&error, Some(Event::Failed(EngineError::Invalid(m))) if m.contains(message)),
            "{error:?}"
        );
    }
    finish(&mut driver);
    assert_eq!(tokens_of(&arrived(&mut good), 0).len(), 20);
}
