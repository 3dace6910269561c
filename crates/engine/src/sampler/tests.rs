use std::collections::HashMap;

use serde_json::Value;

use super::*;

/// Made by Hugging Face transformers' own logits processors; the file says which.
const WARPERS: &str = include_str!("../../tests/goldens/warpers.json");

fn sampler(params: Sampling, prompt: &[u32]) -> Sampler {
    let prompt = Sampler::penalised_prompt(&params, prompt);
    let seed = params.seed.unwrap_or(0);
    Sampler::new(Arc::new(params), prompt, seed, 0)
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn params_of(case: &Value) -> Sampling {
    let number = |key: &str| case[key].as_f64().unwrap() as f32;
    Sampling {
        temperature: number("temperature"),
        top_k: case["top_k"].as_u64().unwrap() as usize,
        top_p: number("top_p"),
        min_p: number("min_p"),
        repetition_penalty: number("repetition_penalty"),
        ..Sampling::default()
    }
}

/// The sampler of a golden case after its generated tokens, and its prepared row.
fn prepared(case: &Value) -> (Sampler, Vec<f32>) {
    let mut s = sampler(params_of(case), &ids(&case["prompt"]));
    for token in ids(&case["generated"]) {
        *s.generated.entry(token).or_insert(0) += 1;
    }
    let mut row = floats(&case["logits"]);
    s.prepare(&mut row, None);
    (s, row)
}

#[test]
fn the_tokens_kept_and_their_probabilities_are_those_of_transformers() {
    let goldens: Value = serde_json::from_str(WARPERS).unwrap();
    for (i, case) in goldens["cases"].as_array().unwrap().iter().enumerate() {
        let (s, row) = prepared(case);
        let mut space = Workspace::default();
        let max = space.maxima.read(&row);
        let total = keep_best(&s.draw_of(0.0, None), &row, max, &mut space);
        let expected = case["kept"].as_array().unwrap();
        assert_eq!(space.best.len(), expected.len(), "case {i}: number of tokens kept");
        for (&(token, weight), pair) in space.best.iter().zip(expected) {
            assert_eq!(u64::from(token), pair[0].as_u64().unwrap(), "case {i}");
            let (got, expected) = (f64::from(weight) / total, pair[1].as_f64().unwrap());
            assert!((got - expected).abs() < 2e-6, "case {i}, token {token}: {got}, not {expected}");
        }
    }
}

#[test]
fn tokens_are_drawn_as_often_as_their_probability_says() {
    let goldens: Value = serde_json::from_str(WARPERS).unwrap();
    const DRAWS: u64 = 3_000;
    for (i, case) in goldens["cases"].as_array().unwrap().iter().enumerate() {
        let (mut s, mut row) = prepared(case);
        let mut space = Workspace::default();
        let mut counts: HashMap<u32, f64> = HashMap::new();
        for _ in 0..DRAWS {
            let at = uniform(&mut s.rng);
            let draw = s.draw_of(at, None);
            *counts.entry(pick(&draw, &mut row, &mut space).unwrap()).or_default() += 1.0;
        }
        // Pearson's chi-square over the tokens that are expected often enough; its mean is the degrees of freedom.
        let (mut chi, mut degrees) = (0.0, 0.0);
        for pair in case["kept"].as_array().unwrap() {
            let expected = pair[1].as_f64().unwrap() * DRAWS as f64;
            let count = counts.remove(&(pair[0].as_u64().unwrap() as u32)).unwrap_or(0.0);
            if expected >= 5.0 {
                chi += (count - expected).powi(2) / expected;
                degrees += 1.0;
            }
        }
        assert!(counts.is_empty(), "case {i}: drawn, but not kept: {counts:?}");
        let sigmas = (chi - degrees) / (2.0f64 * degrees).sqrt();
        assert!(sigmas < 4.0, "case {i}: chi-square is {sigmas} standard deviations too high");
    }
}

#[test]
fn greedy_takes_the_lowest_id_of_equals_and_never_nan() {
    let params = Sampling { temperature: 0.0, ..Sampling::default() };
    let mut space = Workspace::default();
    let mut draw = |row: &[f32]| sampler(params.clone(), &[]).draw(&mut row.to_vec(), None, &mut space);
    assert_eq!(draw(&[1.0, 3.0, 3.0, 2.0]), Some(1));
    assert_eq!(draw(&[f32::NAN, -5.0, f32::NAN]), Some(1));
    assert_eq!(draw(&[1.0, f32::INFINITY, f32::MAX]), Some(1));
    assert_eq!(draw(&[f32::NAN, f32::NEG_INFINITY]), None);
    let mut wide = vec![0.5; 1000];
    (wide[700], wide[900]) = (2.0, 2.0);
    assert_eq!(draw(&wide), Some(700));
}

#[test]
fn nan_and_infinity_are_survived_at_any_temperature() {
    for (top_k, top_p, min_p) in [(0, 1.0, 0.0), (2, 1.0, 0.0), (0, 0.5, 0.0), (0, 1.0, 0.3)] {
        for temperature in [1e-4, 1.0, 1e6] {
            let params = Sampling { temperature, top_k, top_p, min_p, ..Sampling::default() };
            let mut s = sampler(params, &[]);
            let mut space = Workspace::default();
            let row = [f32::NAN, 1.0, f32::NEG_INFINITY, 2.0];
            for _ in 0..50 {
                let token = s.draw(&mut row.to_vec(), None, &mut space);
                assert!(matches!(token, Some(1 | 3)), "{token:?}");
            }
            assert_eq!(s.draw(&mut [f32::INFINITY, 0.0], None, &mut space), Some(0));
            assert_eq!(s.draw(&mut [f32::NAN; 3], None, &mut space), None);
        }
    }
}

#[test]
fn presence_and_frequency_penalties_follow_openais_formula_and_spare_the_prompt() {
    let params = Sampling { presence_penalty: 0.5, frequency_penalty: 0.25, ..Sampling::default() };
    let mut s = sampler(params, &[0]);
    s.generated = HashMap::from([(1, 1), (2, 3)]);
    let mut row = [1.0; 4];
    s.prepare(&mut row, None);
    assert_eq!(row, [1.0, 1.0 - 0.25 - 0.5, 1.0 - 3.0 * 0.25 - 0.5, 1.0]);
}

#[test]
fn bias_comes_before_penalties_and_the_mask_after_both() {
    let params =
        Sampling { logit_bias: vec![(1, 2.0), (2, 100.0)], repetition_penalty: 2.0, ..Sampling::default() };
    let s = sampler(params, &[1, 3]);
    let mut mask = TokenMask::none(4);
    [0, 1, 3].iter().for_each(|&t| mask.allow(t));
    let mut row = [1.0, 2.0, 3.0, -1.0];
    s.prepare(&mut row, Some(&mask));
    assert_eq!(row, [1.0, (2.0 + 2.0) / 2.0, f32::NEG_INFINITY, -2.0]);
}

#[test]
fn an_empty_mask_leaves_nothing_to_draw() {
    let mut s = sampler(Sampling::default(), &[]);
    assert_eq!(s.draw(&mut [1.0, 2.0], Some(&TokenMask::none(2)), &mut Workspace::default()), None);
}

#[test]
fn the_same_seed_draws_the_same_tokens_and_choices_differ() {
    let params = Arc::new(Sampling::default());
    let text = |seed: u64, choice: usize| -> Vec<u32> {
        let mut s = Sampler::new(params.clone(), Arc::default(), seed, choice);
        let mut space = Workspace::default();
        (0..40).filter_map(|_| s.draw(&mut [0.0; 100], None, &mut space)).collect()
    };
    assert_eq!(text(7, 0), text(7, 0));
    assert_ne!(text(7, 0), text(7, 1));
    assert_eq!(text(7, 1), text(8, 0), "choice i of n uses seed + i");
    assert_eq!(text(u64::MAX, 1), text(0, 0), "the greatest seed does not overflow");
}

#[test]
fn a_backend_is_told_to_draw_what_the_sampler_would() {
    let mut rows = ChaCha8Rng::seed_from_u64(5);
    for (temperature, top_p) in [(0.0, 1.0), (0.9, 1.0), (1.2, 0.8)] {
        let params = Arc::new(Sampling { temperature, top_p, ..Sampling::default() });
        let mut here = Sampler::new(params.clone(), Arc::default(), 11, 0);
        let mut there = Sampler::new(params, Arc::default(), 11, 0);
        let mut space = Workspace::default();
        let mut announced = None;
        for step in 0..50 {
            let row: Vec<f32> = (0..60).map(|_| uniform(&mut rows) as f32 * 8.0).collect();
            let draw = there.as_draw(step == 49).unwrap();
            assert_eq!(announced.unwrap_or(draw.at), draw.at, "what was announced is drawn");
            announced = draw.then;
            there.drawn();
            let token = here.draw(&mut row.clone(), None, &mut space);
            assert_eq!(pick(&draw, &mut row.clone(), &mut space), token);
        }
        assert_eq!(announced, None, "nothing comes after the last");
    }
    for params in [
        Sampling { frequency_penalty: 0.1, ..Sampling::default() },
        Sampling { repetition_penalty: 1.1, ..Sampling::default() },
        Sampling { logit_bias: vec![(1, 1.0)], ..Sampling::default() },
    ] {
        assert_eq!(sampler(params, &[]).as_draw(false), None, "more than the logits decides");
    }
}

#[test]
fn a_draw_depends_on_how_many_came_before_and_not_on_what_they_were() {
    let params = Arc::new(Sampling::default());
    let mut space = Workspace::default();
    let mut last_of = |rows: &[Vec<f32>]| {
        let mut s = Sampler::new(params.clone(), Arc::default(), 3, 0);
        rows.iter().filter_map(|row| s.draw(&mut row.clone(), None, &mut space)).last()
    };
    let flat = vec![0.0; 50];
    let peaked: Vec<f32> = (0..50).map(|i| i as f32).collect();
    assert_eq!(last_of(&[flat.clone(), flat.clone()]), last_of(&[peaked, flat]));
}
