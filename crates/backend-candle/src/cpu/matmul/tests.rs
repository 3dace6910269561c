use super::*;
use crate::cpu::testing::{FLOATS, QUANTISED, Random, random_weights};
use perch_model::DType;

/// Widths that end in part of a group, of a chunk of lanes, or of neither.
fn widths(dtype: DType) -> &'static [usize] {
    match dtype.block_len() {
        1 => &[1, 31, 64, 100, 1040],
        32 => &[32, 96, 512, 544, 1024],
        _ => &[256, 512, 768, 1280],
    }
}

fn run(pool: &Pool, isa: Isa, weight: &Matrix, x: &[f32], rows: Option<&[u32]>) -> Vec<f32> {
    let n = x.len() / weight.cols();
    let mut out = vec![f32::NAN; rows.map_or(n, <[u32]>::len) * weight.rows()];
    matmul_grouped(pool, isa, x, n, &mut [Product { weight, rows, out: &mut out }]);
    out
}

fn types() -> impl Iterator<Item = DType> {
    FLOATS.into_iter().chain(QUANTISED)
}

#[test]
fn products_agree_with_a_reference_in_double_precision() {
    let pool = Pool::new(2);
    for dtype in types() {
        for (&cols, rows) in widths(dtype).iter().zip([5, 16, 33, 40, 3]) {
            let weight = Matrix::new(random_weights(dtype, rows, cols, 1)).unwrap();
            let x = Random(2).activations(19, cols);
            let mut row = vec![0.0; cols];
            for isa in Isa::available() {
                let out = run(&pool, isa, &weight, &x, None);
                for r in 0..rows {
                    weight.row_f32(r, &mut row);
                    for (m, x) in x.chunks_exact(cols).enumerate() {
                        let products = || row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                        let exact: f64 = products().sum();
                        let size: f64 = products().map(f64::abs).sum();
                        let bound = size * 1e-6 + rounding_of_activations(dtype, isa, &row, x);
                        let error = (f64::from(out[m * rows + r]) - exact).abs();
                        assert!(
                            error <= bound,
                            "{dtype:?} {isa:?} [{rows}, {cols}] at {m}, {r}: {error} > {bound}"
                        );
                    }
                }
            }
        }
    }
}

/// The most that rounding the activations can change a dot product by.
fn rounding_of_activations(dtype: DType, isa: Isa, w: &[f32], x: &[f32]) -> f64 {
    let pairs = format!("{isa:?}") == "Avx512Bf16";
    let blocks = w.chunks(32).zip(x.chunks(32));
    let bound = |(w, x): (&[f32], &[f32])| -> f64 {
        let weights: f64 = w.iter().map(|w| f64::from(w.abs())).sum();
        let max = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        weights * f64::from(max) / 127.0 * 0.5001
    };
    match dtype {
        DType::BF16 if pairs => w.iter().zip(x).map(|(w, x)| f64::from((w * x).abs()) / 256.0).sum(),
        DType::F32 | DType::F16 | DType::BF16 => 0.0,
        _ => blocks.map(bound).sum(),
    }
}

#[test]
fn quantised_products_have_the_same_bits_on_every_level() {
    let pool = Pool::new(2);
    for dtype in QUANTISED {
        for &cols in widths(dtype) {
            let weight = Matrix::new(random_weights(dtype, 35, cols, 3)).unwrap();
            let x = Random(4).activations(21, cols);
            let portable = run(&pool, Isa::Portable, &weight, &x, None);
            for isa in Isa::available() {
                let out = run(&pool, isa, &weight, &x, None);
                let differs = (0..out.len()).find(|i| out[*i].to_bits() != portable[*i].to_bits());
                assert_eq!(
                    differs,
                    None,
                    "{dtype:?} {isa:?} {cols}: {:?}",
                    differs.map(|i| (out[i], portable[i]))
                );
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_any_company() {
    let mut random = Random(5);
    let pools: Vec<Pool> = (1..5).map(Pool::new).collect();
    for dtype in types() {
        for &cols in &widths(dtype)[2..] {
            let rows = 1 + random.below(70);
            let weight = Matrix::new(random_weights(dtype, rows, cols, random.next())).unwrap();
            let x = random.activations(40, cols);
            for isa in Isa::available() {
                let alone: Vec<f32> =
                    x.chunks_exact(cols).flat_map(|x| run(&pools[0], isa, &weight, x, None)).collect();
                for _ in 0..6 {
                    let pool = &pools[random.below(4)];
                    let start = random.below(40);
                    let end = start + 1 + random.below(40 - start);
                    let together = run(pool, isa, &weight, &x[start * cols..end * cols], None);
                    assert!(
                        same_bits(&together, &alone[start * rows..end * rows]),
                        "{dtype:?} {isa:?} {start}..{end}"
                    );
                    let chosen: Vec<u32> =
                        (0..1 + random.below(30)).map(|_| random.below(40) as u32).collect();
                    let together = run(pool, isa, &weight, &x, Some(&chosen));
                    let expected: Vec<f32> =
                        chosen.iter().flat_map(|m| &alone[*m as usize * rows..][..rows]).copied().collect();
                    assert!(same_bits(&together, &expected), "{dtype:?} {isa:?} {chosen:?}");
                }
            }
        }
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn matrices_of_several_types_share_one_input() {
    let pool = Pool::new(2);
    let mut random = Random(6);
    let weights: Vec<Matrix> = [DType::Q4K, DType::Q6K, DType::F16, DType::BF16, DType::Q4K]
        .into_iter()
        .map(|dtype| Matrix::new(random_weights(dtype, 1 + random.below(60), 768, random.next())).unwrap())
        .collect();
    for n in [1, 3, 8, 30] {
        let x = random.activations(n, 768);
        let mut outs: Vec<Vec<f32>> = weights.iter().map(|w| vec![0.0; n * w.rows()]).collect();
        let mut slices: Vec<&mut [f32]> = outs.iter_mut().map(Vec::as_mut_slice).collect();
        matmul(&pool, &weights.iter().collect::<Vec<_>>(), &x, n, &mut slices);
        for (weight, out) in weights.iter().zip(&outs) {
            assert!(same_bits(out, &run(&pool, pool.isa(), weight, &x, None)));
        }
    }
}

#[test]
fn experts_with_tokens_of_their_own_are_one_call() {
    let pool = Pool::new(3);
    let mut random = Random(8);
    let experts: Vec<Matrix> =
        (0..6).map(|i| Matrix::new(random_weights(DType::Mxfp4, 48, 256, i)).unwrap()).collect();
    let x = random.activations(33, 256);
    let tokens: Vec<Vec<u32>> =
        [0, 1, 2, 9, 20, 33].map(|count| (0..count).map(|_| random.below(33) as u32).collect()).into();
    let mut outs: Vec<Vec<f32>> = tokens.iter().map(|t| vec![0.0; t.len() * 48]).collect();
    let mut products: Vec<Product<'_>> = (experts.iter().zip(&tokens).zip(&mut outs))
        .map(|((weight, rows), out)| Product { weight, rows: Some(rows), out })
        .collect();
    matmul_grouped(&pool, pool.isa(), &x, 33, &mut products);
    for ((expert, tokens), out) in experts.iter().zip(&tokens).zip(&outs) {
        assert!(same_bits(out, &run(&pool, pool.isa(), expert, &x, Some(tokens))));
    }
}

#[test]
fn a_fault_in_the_activations_shows_in_its_own_row_only() {
    let pool = Pool::new(1);
    for dtype in types() {
        let weight = Matrix::new(random_weights(dtype, 20, 512, 9)).unwrap();
        for fault in [f32::NAN, f32::INFINITY] {
            let mut x = Random(10).activations(10, 512);
            x[3 * 512 + 40] = fault;
            for isa in Isa::available() {
                let out = run(&pool, isa, &weight, &x, None);
                for (m, row) in out.chunks_exact(20).enumerate() {
                    assert_eq!(row.iter().any(|v| !v.is_finite()), m == 3, "{dtype:?} {isa:?} row {m}");
                }
            }
        }
    }
}

#[test]
fn zeros_in_give_zeros_out() {
    let pool = Pool::new(1);
    for dtype in types() {
        let weight = Matrix::new(random_weights(dtype, 20, 512, 11)).unwrap();
        for isa in Isa::available() {
            assert!(
                run(&pool, isa, &weight, &[0.0; 512 * 9], None).iter().all(|v| *v == 0.0),
                "{dtype:?} {isa:?}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "a row index is beyond the input")]
fn a_row_index_beyond_the_input_is_refused() {
    let weight = Matrix::new(random_weights(DType::F32, 2, 4, 12)).unwrap();
    run(&Pool::new(1), Isa::Portable, &weight, &[0.0; 8], Some(&[2]));
}

#[test]
fn no_rows_are_no_work() {
    let weight = Matrix::new(random_weights(DType::Q8_0, 2, 32, 13)).unwrap();
    assert!(run(&Pool::new(2), Isa::best(), &weight, &[], None).is_empty());
}
