//! `Pool`: a small fork-join pool for the CPU kernels, shared by every model of a process.
//!
//! Why not rayon: a decode step is some two hundred parallel regions of 20–500 µs each, so the fork and the join have
//! to cost a few µs, an idle server has to cost nothing, and the caller (an engine thread) has to take part.
//!
//! One region runs at a time; callers on other threads wait their turn. A region is open while parts are left; a
//! worker that wakes too late finds it closed and is not waited for, so the join costs no more than the last part.
//!
//! Each thread begins in a stretch of parts of its own, in order, and then takes parts from the stretches that are not
//! yet done. Neighbouring parts are mostly neighbours in memory, and a thread that reads on without gaps gets a fifth
//! more bandwidth than two threads that take turns (28 and 34 GB/s from a mapped file on the machine of the recipe).
//!
//! Invariants:
//! - a task is only called between the region's opening and the caller's return, so it may borrow from the caller;
//! - `state` holds, from bit 0: whether the region is open (1 bit), its participants (16 bits), its number (47 bits);
//!   `job` is written only by the caller that holds `turn`, while the region is closed and without participants;
//! - a panic in a part ends the region early and is raised again in the caller; the pool stays usable;
//! - workers spin for `SPIN` after a region and then sleep in the kernel.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::isa::Isa;
use super::scratch::Scratch;

/// How long a worker looks for the next region before it sleeps. Longer than the serial stretches of a forward pass
/// (norms, rotations), far shorter than the gap between two requests.
const SPIN: Duration = Duration::from_micros(40);

const OPEN: u64 = 1;
const PARTICIPANT: u64 = 1 << 1;
const PARTICIPANTS: u64 = 0xffff << 1;
const REGION: u64 = 1 << 17;

thread_local! {
    /// Whether this thread is inside a region; a nested region then runs inline instead of waiting for itself.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A fixed set of worker threads. Dropping it joins them.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    turn: Mutex<()>,
    scratch: Scratch,
    isa: Isa,
}

/// Keeps the hot words on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    state: Padded<AtomicU64>,
    /// The next part of each thread's stretch.
    next: Vec<Padded<AtomicUsize>>,
    job: UnsafeCell<Job>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Mutex<Option<Thread>>,
    caller_sleeps: AtomicBool,
    sleeping: Vec<AtomicBool>,
    stop: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("workers", &self.sleeping.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync + 'static),
    parts: usize,
}

// SAFETY: `job` is the only part that is not `Sync` by itself. It is written by the holder of `turn` while the region
// is closed and has no participants, and read by threads that have registered as participants of an open region; the
// opening store and the registering exchange order the two.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to a `Sync` task and is not used beyond the region (see `Sync`).
unsafe impl Send for Shared {}

impl Pool {
    /// A pool in which `threads` threads work on a region: the caller and `threads - 1` workers (at least the caller).
    pub fn new(threads: usize) -> Self {
        let workers = threads.clamp(1, 1024) - 1;
        let shared = Arc::new(Shared {
            state: Padded::default(),
            next: (0..=workers).map(|_| Padded::default()).collect(),
            job: UnsafeCell::new(Job { task: &|_: usize| {}, parts: 0 }),
            panic: Mutex::new(None),
            caller: Mutex::new(None),
            caller_sleeps: AtomicBool::new(false),
            sleeping: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("perch-cpu-{}", index + 1))
                .spawn(move || shared.work(index))
                .ok()
        };
        // A system that refuses a thread leaves a smaller pool, not a dead process.
        let workers = (0..workers).map_while(spawn).collect();
        Self { shared, workers, turn: Mutex::new(()), scratch: Scratch::default(), isa: Isa::best() }
    }

    /// Threads that work on a region, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The instruction-set level of this processor.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Buffers for the kernels that run on this pool.
    pub(super) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Frees the kernels' idle buffers.
    pub fn trim(&self) {
        self.scratch.trim();
    }

    /// Calls `task(0)`, …, `task(parts - 1)`, each once, on the pool's threads, and returns when all have ended.
    /// Parts are handed out one at a time, so uneven parts balance out. A panic in a part comes out here.
    pub fn run(&self, parts: usize, task: impl Fn(usize) + Sync) {
        if parts <= 1 || self.workers.is_empty() || INSIDE.get() {
            return (0..parts).for_each(task);
        }
        let _turn = lock(&self.turn);
        let borrowed: &(dyn Fn(usize) + Sync) = &task;
        // SAFETY: only the lifetime changes. `run_region` does not return, nor unwind, before every participant has
        // left the region, and nobody reads the pointer after that.
        let task = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(
                borrowed,
            )
        };
        self.shared.run_region(Job { task, parts }, &self.workers);
        if let Some(payload) = lock(&self.shared.panic).take() {
            resume_unwind(payload);
        }
    }

    /// Calls `task(i, chunk)` for every chunk of `chunk` elements of `data` (the last may be shorter), in parallel.
    pub fn run_chunks<T: Send>(&self, data: &mut [T], chunk: usize, task: impl Fn(usize, &mut [T]) + Sync) {
        let chunk = chunk.max(1);
        let len = data.len();
        let base = SendPtr(data.as_mut_ptr());
        self.run(len.div_ceil(chunk), |part| {
            let start = part * chunk;
            // SAFETY: parts cover disjoint ranges of `data`, each is run once, and `data` is borrowed for the call.
            let piece =
                unsafe { std::slice::from_raw_parts_mut(base.get().add(start), chunk.min(len - start)) };
            task(part, piece);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its parts, so there is nothing to hear from it.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Opens a region, takes part in it, closes it and waits for the other participants.
    fn run_region(&self, job: Job, workers: &[JoinHandle<()>]) {
        // SAFETY: the caller holds `turn`; the region before this one is closed and has no participants.
        unsafe { *self.job.get() = job };
        for (thread, next) in self.next.iter().enumerate() {
            next.0.store(self.stretch(job, thread).start, Ordering::Relaxed);
        }
        let closed = self.state.0.load(Ordering::Relaxed);
        self.state.0.store((closed & !(OPEN | PARTICIPANTS)).wrapping_add(REGION) | OPEN, Ordering::SeqCst);
        for (worker, sleeping) in workers.iter().zip(&self.sleeping).take(job.parts - 1) {
            if sleeping.load(Ordering::SeqCst) && sleeping.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        self.take_parts(job, 0);
        let state = self.state.0.fetch_and(!OPEN, Ordering::AcqRel);
        if state & PARTICIPANTS != 0 {
            self.wait_for_participants();
        }
    }

    fn wait_for_participants(&self) {
        let busy = || self.state.0.load(Ordering::SeqCst) & PARTICIPANTS != 0;
        if spin_while(busy) {
            *lock(&self.caller) = Some(thread::current());
            self.caller_sleeps.store(true, Ordering::SeqCst);
            while busy() {
                thread::park();
            }
            self.caller_sleeps.store(false, Ordering::SeqCst);
        }
    }

    /// The parts with which thread `thread` begins.
    fn stretch(&self, job: Job, thread: usize) -> Range<usize> {
        let cut = |thread: usize| job.parts * thread / self.next.len();
        cut(thread)..cut(thread + 1)
    }

    /// Runs parts until none is left, those of thread `first`'s stretch first.
    fn take_parts(&self, job: Job, first: usize) {
        let was_inside = INSIDE.replace(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the region is open or this thread is registered in it, so the caller's borrow is alive.
            let task = unsafe { &*job.task };
            let threads = self.next.len();
            for thread in (first..threads).chain(0..first) {
                let end = self.stretch(job, thread).end;
                loop {
                    let part = self.next[thread].0.fetch_add(1, Ordering::Relaxed);
                    if part >= end {
                        break;
                    }
                    task(part);
                }
            }
        }));
        INSIDE.set(was_inside);
        if let Err(payload) = result {
            // Parts not begun are dropped: their results would be thrown away with the panic.
            for next in &self.next {
                next.0.fetch_max(job.parts, Ordering::Relaxed);
            }
            lock(&self.panic).get_or_insert(payload);
        }
    }

    /// A worker's life.
    fn work(&self, index: usize) {
        let mut seen = 0;
        while let Some(state) = self.wait_for_region(index, seen) {
            seen = state & !(OPEN | PARTICIPANTS);
            if self.join(seen) {
                // SAFETY: registered in the open region, so `job` is the caller's and stays until this thread leaves.
                let job = unsafe { *self.job.get() };
                self.take_parts(job, index + 1);
                self.leave();
            }
        }
    }

    /// Registers in region `region` if it is still open.
    fn join(&self, region: u64) -> bool {
        let state = &self.state.0;
        let still = |now: u64| {
            (now & OPEN != 0 && now & !(OPEN | PARTICIPANTS) == region).then_some(now + PARTICIPANT)
        };
        state.fetch_update(Ordering::AcqRel, Ordering::Acquire, still).is_ok()
    }

    fn leave(&self) {
        let before = self.state.0.fetch_sub(PARTICIPANT, Ordering::SeqCst);
        let last = before & PARTICIPANTS == PARTICIPANT && before & OPEN == 0;
        if last && self.caller_sleeps.load(Ordering::SeqCst) {
            // Cloned, not taken: a late look by an earlier region's worker must not rob the present one of its wake-up.
            let caller = lock(&self.caller).clone();
            caller.inspect(Thread::unpark);
        }
    }

    /// The state of the first region after `seen`; `None` when the pool ends. Spins first, then sleeps.
    fn wait_for_region(&self, index: usize, seen: u64) -> Option<u64> {
        let old = || {
            self.state.0.load(Ordering::SeqCst) & !(OPEN | PARTICIPANTS) == seen
                && !self.stop.load(Ordering::SeqCst)
        };
        if spin_while(old) {
            // Announce, look again, sleep: either this look sees the new region or its caller sees the announcement.
            while old() {
                self.sleeping[index].store(true, Ordering::SeqCst);
                if old() {
                    thread::park();
                }
                self.sleeping[index].store(false, Ordering::SeqCst);
            }
        }
        let state = self.state.0.load(Ordering::SeqCst);
        (!self.stop.load(Ordering::SeqCst)).then_some(state)
    }
}

/// Spins while `condition` holds, for [`SPIN`] at most; returns whether it still held.
fn spin_while(condition: impl Fn() -> bool) -> bool {
    let mut deadline = None;
    loop {
        for _ in 0..32 {
            if !condition() {
                return false;
            }
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if now > *deadline.get_or_insert(now + SPIN) {
            return condition();
        }
    }
}

/// Locks without caring for poison: every value here is valid after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pointer that parts of a region may share; each part derives a range of its own from it.
#[derive(Debug)]
pub(super) struct SendPtr<T>(pub(super) *mut T);

impl<T> SendPtr<T> {
    pub(super) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: whoever dereferences it proves the ranges disjoint; the elements themselves may move between threads.
unsafe impl<T: Send> Sync for SendPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SendPtr<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_exactly_once() {
        for threads in 1..5 {
            let pool = Pool::new(threads);
            for parts in [0, 1, 2, 3, 7, 100] {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                pool.run(parts, |i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {parts} parts"
                );
            }
        }
    }

    #[test]
    fn a_hundred_thousand_regions_lose_no_part() {
        let pool = Pool::new(3);
        let sum = AtomicUsize::new(0);
        for round in 0..100_000 {
            pool.run(3, |i| {
                sum.fetch_add(i + 1, Ordering::Relaxed);
            });
            assert_eq!(sum.load(Ordering::Relaxed), (round + 1) * 6);
        }
    }

    #[test]
    fn a_region_after_a_long_sleep_still_runs_on_all_threads() {
        let pool = Pool::new(2);
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(5));
            let ids = Mutex::new(std::collections::HashSet::new());
            pool.run(2, |_| {
                ids.lock().unwrap().insert(thread::current().id());
                // Long enough that the worker, once woken, finds its part still there.
                thread::sleep(Duration::from_millis(20));
            });
            assert_eq!(ids.lock().unwrap().len(), 2);
        }
    }

    #[test]
    fn a_panic_in_a_part_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2);
        for culprit in [0, 63] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(64, |i| {
                    thread::sleep(Duration::from_micros(50));
                    assert!(i != culprit, "part {i} failed");
                });
            }));
            let payload = caught.expect_err("the panic came out");
            assert_eq!(payload.downcast_ref::<String>().unwrap(), &format!("part {culprit} failed"));
            let sum = AtomicUsize::new(0);
            pool.run(10, |i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Arc::new(Pool::new(2));
        let running = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let (pool, running) = (Arc::clone(&pool), Arc::clone(&running));
                thread::spawn(move || {
                    for _ in 0..200 {
                        let mut data = vec![0_usize; 50];
                        pool.run_chunks(&mut data, 7, |part, chunk| {
                            assert!(running.fetch_add(1, Ordering::SeqCst) < 2, "two regions at once");
                            chunk.fill(caller * 100 + part);
                            running.fetch_sub(1, Ordering::SeqCst);
                        });
                        assert!(data.iter().enumerate().all(|(i, v)| *v == caller * 100 + i / 7));
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|c| c.join().unwrap());
    }

    #[test]
    fn a_region_within_a_region_runs_inline() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        pool.run(4, |_| {
            pool.run(4, |_| {
                sum.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 16);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_idle_pool_uses_no_cpu() {
        let pool = Pool::new(4);
        let ids = Mutex::new(std::collections::HashSet::new());
        pool.run(4, |_| {
            // SAFETY: gettid has no preconditions.
            ids.lock().unwrap().insert(unsafe { libc::gettid() });
            thread::sleep(Duration::from_millis(20));
        });
        let workers = ids.into_inner().unwrap();
        assert_eq!(workers.len(), 4);
        // SAFETY: gettid has no preconditions.
        let caller = unsafe { libc::gettid() };
        let used = || -> u64 {
            let of = |tid: &i32| {
                let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).unwrap();
                stat.split(' ').next().unwrap().parse::<u64>().unwrap()
            };
            workers.iter().filter(|t| **t != caller).map(of).sum()
        };
        thread::sleep(Duration::from_millis(20));
        let before = used();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(used() - before, 0, "nanoseconds of CPU time of three workers in 100 idle ms");
    }
}
