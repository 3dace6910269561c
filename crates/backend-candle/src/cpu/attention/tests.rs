//! Attention against a plain sum in `f64`, and its bits under every way of cutting the work.

use perch_engine::SeqId;
use perch_model::{NormKind, RopeLayout};

use super::super::pool::Pool;
use super::super::simd::Width;
use super::*;
use crate::cpu::pages::{Layout, PagePool, PagedKv};
use perch_engine::kv::{KvCache, KvOps, SequenceKv};

/// Numbers in −1 .. 1 that look random, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A layer, one sequence's queries, keys and values.
struct Case {
    heads: Heads,
    sinks: Option<Vec<f32>>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    len: usize,
}

impl Case {
    fn new(heads: usize, kv_heads: usize, head_dim: usize, len: usize) -> Self {
        let heads = Heads {
            heads,
            kv_heads,
            head_dim,
            window: None,
            scale: (head_dim as f32).powf(-0.5),
            softcap: None,
        };
        let [q, k, v] = [(1, heads.heads), (2, kv_heads), (3, kv_heads)].map(|(seed, heads)| {
            let x = noise(seed + len as u64, len * heads * head_dim);
            // f16 holds these exactly, so both kinds of cache have the same answer.
            x.into_iter().map(|x| half::f16::from_f32(3.0 * x).to_f32()).collect::<Vec<_>>()
        });
        Self { heads, sinks: None, q, k, v, len }
    }

    /// The answer by definition, in `f64`.
    fn expected(&self) -> Vec<f64> {
        let Heads { heads, kv_heads, head_dim, window, scale, softcap } = self.heads;
        let mut out = Vec::new();
        for t in 0..self.len {
            for h in 0..heads {
                let kv = h / (heads / kv_heads);
                let row = |x: &[f32], t: usize, n: usize, h: usize| -> Vec<f64> {
                    x[(t * n + h) * head_dim..][..head_dim].iter().map(|x| f64::from(*x)).collect()
                };
                let q = row(&self.q, t, heads, h);
                let seen = t.saturating_sub(window.unwrap_or(usize::MAX) - 1)..=t;
                let scores = seen.clone().map(|j| {
                    let k = row(&self.k, j, kv_heads, kv);
                    let s = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * f64::from(scale);
                    softcap.map_or(s, |cap| f64::from(cap) * (s / f64::from(cap)).tanh())
                });
                let scores: Vec<f64> = scores.collect();
                let sink = self.sinks.as_ref().map(|sinks| f64::from(sinks[h]));
                let top = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = scores.iter().chain(&sink).map(|s| (s - top).exp()).sum();
                let mut sum = vec![0.0; head_dim];
                for (j, s) in seen.zip(&scores) {
                    let v = row(&self.v, j, kv_heads, kv);
                    sum.iter_mut().zip(v).for_each(|(sum, v)| *sum += (s - top).exp() / total * v);
                }
                out.extend(sum);
            }
        }
        out
    }

    /// The kernels' answer, with the tokens coming in pieces of `chunks` tokens (the last as often as needed).
    fn run(&self, cpu: &Cpu, element: usize, chunks: &[usize]) -> Vec<f32> {
        let Heads { heads, kv_heads, head_dim, .. } = self.heads;
        let layout = Layout::of(&[(kv_heads, head_dim)], element);
        let pool = PagePool::new(layout);
        // A used page is stale all over; none of it may reach a result.
        let mut stale = PagedKv::open(&pool, &[]).unwrap();
        stale.reserve(&pool, self.len + PAGE_TOKENS).unwrap();
        stale.fill(0xff);
        drop(stale);
        let mut cache = KvCache::<PagedKv>::new(pool, PAGE_TOKENS);
        cache.open(SeqId(0), &[]).unwrap();
        let mut out = Vec::new();
        let (mut position, mut chunk) = (0, chunks.iter());
        let mut len = chunks[0];
        while position < self.len {
            len = chunk.next().copied().unwrap_or(len).min(self.len - position);
            let tokens = vec![0; len];
            let run = perch_engine::Run {
                seq: SeqId(0),
                tokens: &tokens,
                position,
                wanted: perch_engine::Wanted::None,
            };
            cache.reserve(&[run]).unwrap();
            let table = PageTable::new(&cache, [SeqId(0)].into_iter()).unwrap();
            let rows = |x: &'_ [f32], heads: usize| {
                x[position * heads * head_dim..][..len * heads * head_dim].to_vec()
            };
            let (q, k, v) = (rows(&self.q, heads), rows(&self.k, kv_heads), rows(&self.v, kv_heads));
            let step = Step {
                heads: &self.heads,
                layer: 0,
                q_norm: None,
                k_norm: None,
                rotation: None,
                sinks: self.sinks.as_deref(),
                table: &table,
                spans: &[Span { seq: SeqId(0), start: 0, len, position }],
                q: &q,
                k: &k,
                v: &v,
            };
            let mut part = vec![f32::NAN; q.len()];
            attend(cpu, &step, &mut part);
            drop(table);
            cache.commit(&[run]);
            out.extend(part);
            position += len;
        }
        out
    }
}

fn cpu(threads: usize, width: Width) -> Cpu {
    Cpu { pool: std::sync::Arc::new(Pool::new(threads)), width }
}

fn cases() -> Vec<(&'static str, Case)> {
    let with = |mut case: Case, change: &dyn Fn(&mut Case)| {
        change(&mut case);
        case
    };
    vec![
        ("multi-head", Case::new(3, 3, 16, 70)),
        ("grouped", Case::new(8, 2, 32, 100)),
        ("groups of seven with an odd width", Case::new(14, 2, 24, 45)),
        ("one narrow KV head", Case::new(5, 1, 8, 40)),
        ("wide heads", Case::new(4, 2, 256, 65)),
        ("over several splits", Case::new(4, 2, 16, 1200)),
        ("window", with(Case::new(4, 2, 16, 150), &|c| c.heads.window = Some(37))),
        ("window of one", with(Case::new(4, 2, 16, 50), &|c| c.heads.window = Some(1))),
        ("window over splits", with(Case::new(2, 1, 16, 1300), &|c| c.heads.window = Some(600))),
        ("softcap", with(Case::new(4, 2, 16, 50), &|c| c.heads.softcap = Some(2.5))),
        ("sinks", with(Case::new(4, 2, 16, 600), &|c| c.sinks = Some(vec![0.5, -3.0, 4.0, 40.0]))),
    ]
}

#[test]
fn attention_is_the_softmax_of_its_definition() {
    for width in Width::available() {
        for (name, case) in cases() {
            let expected = case.expected();
            for element in [2, 4] {
                let found = case.run(&cpu(2, width), element, &[case.len]);
                let off = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs());
                let off =
                    off.fold(0.0, |worst, d| if d.is_nan() { f64::INFINITY } else { f64::max(worst, d) });
                assert!(off < 2e-5, "{name}, {width:?}, {element} bytes: off by {off}");
            }
        }
    }
}

#[test]
fn cuts_threads_and_tiles_do_not_change_a_bit() {
    for width in Width::available() {
        for (name, case) in cases() {
            let whole = case.run(&cpu(1, width), 2, &[case.len]);
            for (threads, chunks) in
                [(1, vec![1]), (3, vec![7]), (2, vec![33, 1]), (4, vec![1]), (3, vec![case.len - 1, 1])]
            {
                let cut = case.run(&cpu(threads, width), 2, &chunks);
                assert_eq!(whole, cut, "{name}, {width:?}, {threads} threads, chunks of {chunks:?}");
            }
        }
    }
}

#[test]
fn head_norms_and_rotation_are_applied_to_queries_and_keys() {
    // A norm of equal elements by 2 and a rotation by a quarter turn have an answer that is known by hand.
    let (len, head_dim) = (2, 4);
    let heads = Heads { heads: 1, kv_heads: 1, head_dim, window: None, scale: 1.0, softcap: None };
    let norm = NormWeights { kind: NormKind::Rms, weight: vec![2.0; head_dim], bias: None, eps: 0.0 };
    for (layout, rotated) in
        [(RopeLayout::Half, [-2.0, -2.0, 2.0, 2.0]), (RopeLayout::Interleaved, [-2.0, 2.0, -2.0, 2.0])]
    {
        let cpu = cpu(1, Width::detect());
        let mut cache = KvCache::<PagedKv>::new(PagePool::new(Layout::of(&[(1, head_dim)], 4)), PAGE_TOKENS);
        cache.open(SeqId(0), &[]).unwrap();
        let run = perch_engine::Run {
            seq: SeqId(0),
            tokens: &[0; 2],
            position: 0,
            wanted: perch_engine::Wanted::None,
        };
        cache.reserve(&[run]).unwrap();
        let table = PageTable::new(&cache, [SeqId(0)].into_iter()).unwrap();
        // Token 0 does not turn; token 1 turns by 90 degrees.
        let rotation = Rotation { cos: &[1.0, 1.0, 0.0, 0.0], sin: &[0.0, 0.0, 1.0, 1.0], half: 2, layout };
        let (q, v) = (vec![5.0; len * head_dim], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]);
        let mut out = vec![f32::NAN; len * head_dim];
        let step = Step {
            heads: &heads,
            layer: 0,
            q_norm: Some(&norm),
            k_norm: Some(&norm),
            rotation: Some(rotation),
            sinks: None,
            table: &table,
            spans: &[Span { seq: SeqId(0), start: 0, len, position: 0 }],
            q: &q,
            k: &q,
            v: &v,
        };
        attend(&cpu, &step, &mut out);
        // Token 1's key has the score of the rotated row with itself, token 0's of the rotated row with all twos.
        let dot = |x: [f32; 4]| x.iter().zip(rotated).map(|(a, b)| a * b).sum::<f32>();
        let share = 1.0 / (1.0 + (dot([2.0; 4]) - dot(rotated)).exp());
        assert_eq!(out[..head_dim], [0.0; 4], "{layout:?}");
        assert!(out[head_dim..].iter().all(|x| (x - share).abs() < 1e-6), "{layout:?}: {out:?}, not {share}");
    }
}
