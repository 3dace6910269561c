//! Matrix products of activations and weights: `out = x · wᵀ`.
//!
//! Batch invariance, the contract that continuous batching stands on: a row of the output depends on its own row of
//! the input alone, bit for bit, whatever `n`, the other rows, the number of threads and the partition. It holds
//! because every kernel of a level, for one row or for a tile of rows, keeps the order of accumulation given in
//! `portable.rs`; which kernel runs is a matter of speed alone.
//!
//! A call is at most three parallel regions: activations are brought into the form that the weights want, packed into
//! tiles where there are many, and multiplied. Weight rows are handed out in chunks, to whichever thread is free.

use super::input::Input;
use super::isa::Isa;
use super::kernel::{Kernel, Need, PanelKernel};
use super::matrix::Matrix;
use super::pool::Pool;
use super::scratch::Loan;
use super::task::{Out, Select, Task};

/// Bytes of weights that one part of a decoding region reads: some µs of memory traffic.
const CHUNK_BYTES: usize = 32 * 1024;

/// One matrix applied to some rows of a shared input.
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights.
    pub weight: &'a Matrix,
    /// Which rows of the input, in the order of the output; `None` takes all.
    pub rows: Option<&'a [u32]>,
    /// `[rows, weight.rows()]`.
    pub out: &'a mut [f32],
}

/// `outs[i] = x · weights[i]ᵀ` for matrices that share the input (q, k, v; gate, up). `x` is `[n, cols]`, `outs[i]` is
/// `[n, weights[i].rows()]`.
///
/// # Panics
/// When the lengths disagree.
pub fn matmul(pool: &Pool, weights: &[&Matrix], x: &[f32], n: usize, outs: &mut [&mut [f32]]) {
    assert_eq!(weights.len(), outs.len(), "one output for each matrix");
    let mut products: Vec<Product<'_>> =
        weights.iter().zip(outs).map(|(weight, out)| Product { weight, rows: None, out }).collect();
    matmul_grouped(pool, pool.isa(), x, n, &mut products);
}

/// Several products over rows of one input in a single parallel region: the experts of a mixture, each with the tokens
/// routed to it. `x` is `[n, cols]`. `isa` is [`Pool::isa`], or forces another path that the processor has.
///
/// # Panics
/// When the lengths disagree, a row index is not below `n`, or the processor lacks `isa`.
pub fn matmul_grouped(pool: &Pool, isa: Isa, x: &[f32], n: usize, products: &mut [Product<'_>]) {
    let Some(cols) = products.first().map(|p| p.weight.cols()) else { return };
    assert!(isa.is_available(), "this processor has no {isa:?}");
    assert_eq!(x.len(), n * cols, "the input is not [n, cols]");
    let jobs: Vec<Job<'_>> = products.iter_mut().filter_map(|p| Job::new(isa, p, n, cols)).collect();
    let needs: Vec<Need> = jobs.iter().map(|job| job.kernel.need).collect();
    let input = Input::new(pool, isa, x, cols, &needs);
    let tiles = Tiles::pack(pool, &jobs, &input);

    let (parts, total) = numbered(jobs.iter().map(|job| job.task.weight.rows().div_ceil(job.chunk())));
    pool.run(total, |part| {
        let (index, chunk) = locate(&parts, part);
        let job = &jobs[index];
        let first = chunk * job.chunk();
        // SAFETY: `Job::new` has checked the lengths and `isa` is available; parts have weight rows of their own.
        unsafe {
            match job.panel {
                None => {
                    let rows = first..job.task.weight.rows().min(first + job.chunk());
                    (job.kernel.dot)(&job.task, rows, &input);
                }
                Some(panel) => {
                    let mut room = pool.scratch().take((panel.panel_words)(cols));
                    (panel.run)(&job.task, first, tiles.of(index), &mut room);
                }
            }
        }
    });
}

/// A product with its kernel.
#[derive(Debug)]
struct Job<'a> {
    task: Task<'a>,
    kernel: Kernel,
    /// The panel kernel where it is the faster one for this many rows.
    panel: Option<PanelKernel>,
}

impl<'a> Job<'a> {
    /// Checks a product; `None` when it has no rows.
    fn new(isa: Isa, product: &'a mut Product<'_>, n: usize, cols: usize) -> Option<Self> {
        let weight = product.weight;
        let select = product.rows.map_or(Select::All(n), Select::Rows);
        assert_eq!(weight.cols(), cols, "matrices with a shared input have the same number of columns");
        assert_eq!(product.out.len(), select.len() * weight.rows(), "the output is not [rows, weight rows]");
        if let Select::Rows(rows) = select {
            assert!(rows.iter().all(|row| (*row as usize) < n), "a row index is beyond the input");
        }
        let kernel = Kernel::of(isa, weight.dtype()).expect("a matrix has a type with kernels");
        let panel = kernel.panel.filter(|panel| select.len() >= panel.from);
        let out = Out::new(product.out, weight.rows());
        (select.len() > 0).then_some(Self { task: Task { weight, select, out }, kernel, panel })
    }

    /// Weight rows in a part.
    fn chunk(&self) -> usize {
        self.panel.map_or_else(|| (CHUNK_BYTES / self.task.weight.row_bytes()).max(1), |panel| panel.rows)
    }
}

/// Packed activations.
struct Tiles<'a> {
    packs: Vec<Loan<'a, u32>>,
    /// Which pack each job uses.
    of_job: Vec<Option<usize>>,
}

impl<'a> Tiles<'a> {
    /// Packs the chosen rows of every job with a panel kernel; jobs with all rows and the same need share a pack.
    fn pack(pool: &'a Pool, jobs: &[Job<'_>], input: &Input<'_>) -> Self {
        let mut makers: Vec<(&Job<'_>, PanelKernel)> = Vec::new();
        let mut of_job = Vec::with_capacity(jobs.len());
        for job in jobs {
            let shared = |(maker, _): &(&Job<'_>, PanelKernel)| {
                let all = |job: &Job<'_>| matches!(job.task.select, Select::All(_));
                all(job) && all(maker) && job.kernel.need == maker.kernel.need
            };
            of_job.push(job.panel.map(|panel| {
                makers.iter().position(shared).unwrap_or_else(|| {
                    makers.push((job, panel));
                    makers.len() - 1
                })
            }));
        }
        let packs = makers.into_iter().map(|(job, panel)| {
            let words = (panel.tile_words)(job.task.weight.cols());
            let mut pack = pool.scratch().take(job.task.select.len().div_ceil(panel.tile) * words);
            pool.run_chunks(&mut pack, words, |t, tile| {
                // SAFETY: the level is available, and the input was made for the jobs' needs.
                unsafe { (panel.pack_tile)(input, &job.task, t * panel.tile, tile) };
            });
            pack
        });
        Self { packs: packs.collect(), of_job }
    }

    fn of(&self, job: usize) -> &[u32] {
        self.of_job[job].map_or(&[], |pack| &self.packs[pack])
    }
}

/// Numbers the parts of several jobs one after another: where each job's begin, and how many there are.
fn numbered(counts: impl Iterator<Item = usize>) -> (Vec<usize>, usize) {
    let mut total = 0;
    let mut starts = Vec::new();
    for count in counts {
        starts.push(total);
        total += count;
    }
    (starts, total)
}

/// The job that part `part` belongs to, and which of its parts it is.
fn locate(starts: &[usize], part: usize) -> (usize, usize) {
    let job = starts.partition_point(|start| *start <= part) - 1;
    (job, part - starts[job])
}

#[cfg(test)]
mod tests;
