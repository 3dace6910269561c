//! The one thread of the process that MLX runs on, and `Door`: a value that lives there.
//!
//! Invariants: a value behind a door is made, used and dropped on that thread; jobs run in the order in which they were sent; a
//! panic ends the value and not the thread.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};

use perch_engine::BackendError;

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// The values behind doors, on the thread itself.
    static VALUES: RefCell<HashMap<u64, Box<dyn Any>>> = RefCell::default();
}

/// Hands the thread a job; false if there is no thread.
fn send(job: Job) -> bool {
    static JOBS: OnceLock<Option<Mutex<Sender<Job>>>> = OnceLock::new();
    let jobs = JOBS.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        let thread = std::thread::Builder::new().name("mlx".to_owned());
        let spawned = thread.spawn(move || {
            crate::device::prepare();
            jobs.into_iter().for_each(|job| job());
        });
        spawned.ok().map(|_| Mutex::new(sender))
    });
    match jobs {
        Some(jobs) => jobs.lock().unwrap_or_else(PoisonError::into_inner).send(job).is_ok(),
        None => false,
    }
}

/// Runs `f` on the thread and waits for what it returns; an error says why there is none.
pub(crate) fn run<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> Result<R, String> {
    let (sender, result) = channel();
    let sent = send(Box::new(move || {
        let done = catch_unwind(AssertUnwindSafe(f)).map_err(|panic| message(&*panic));
        // Whoever asked may have been told to stop.
        let _ = sender.send(done);
    }));
    if !sent {
        return Err("the thread for MLX could not be made".to_owned());
    }
    result.recv().map_err(|_| "the thread for MLX ended".to_owned())?
}

/// A value on the MLX thread; dropping the door drops the value there.
pub(crate) struct Door<T> {
    id: u64,
    value: PhantomData<fn() -> T>,
}

impl<T: 'static> Door<T> {
    /// Makes the value. The outer error is the thread's, the inner one that of `make`.
    pub(crate) fn open<E: Send + 'static>(
        make: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<Result<Self, E>, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let made = run(move || {
            make().map(|value| {
                VALUES.with_borrow_mut(|values| values.insert(id, Box::new(value)));
            })
        })?;
        Ok(made.map(|()| Self { id, value: PhantomData }))
    }

    /// Uses the value and waits for the answer.
    ///
    /// # Errors
    /// What `f` returns; [`BackendError::Fatal`] when it panics, and ever after.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut T) -> Result<R, BackendError> + Send + 'static,
    ) -> Result<R, BackendError> {
        let id = self.id;
        run(move || {
            with(id, f).unwrap_or_else(|| Err(BackendError::Fatal("the model has failed before".into())))
        })
        .map_err(BackendError::Fatal)
        .flatten()
    }

    /// Uses the value some time later.
    pub(crate) fn tell(&self, f: impl FnOnce(&mut T) + Send + 'static) {
        let id = self.id;
        send(Box::new(move || {
            // A panic has dropped the value; whoever asks next is told.
            let _ = catch_unwind(AssertUnwindSafe(|| with(id, f)));
        }));
    }
}

impl<T> Drop for Door<T> {
    fn drop(&mut self) {
        let id = self.id;
        send(Box::new(move || {
            let value = VALUES.with_borrow_mut(|values| values.remove(&id));
            let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
            crate::device::release();
        }));
    }
}

/// Calls `f` with the value `id`, which is gone while `f` runs: a panic drops it.
fn with<T: 'static, R>(id: u64, f: impl FnOnce(&mut T) -> R) -> Option<R> {
    let mut value = VALUES.with_borrow_mut(|values| values.remove(&id))?;
    let result = f(value.downcast_mut::<T>()?);
    VALUES.with_borrow_mut(|values| values.insert(id, value));
    Some(result)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("a panic in MLX's thread: {}", text.unwrap_or_else(|| "without a message".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(value: i32) -> Door<i32> {
        Door::open(move || Ok::<_, ()>(value)).unwrap().unwrap()
    }

    #[test]
    fn values_live_on_one_thread_whoever_asks() {
        let here = || run(|| std::thread::current().id()).unwrap();
        let ids: Vec<_> = (0..4).map(|_| std::thread::spawn(here).join().unwrap()).collect();
        assert!(ids.iter().all(|id| *id == ids[0] && *id != std::thread::current().id()));
        let door = door(1);
        door.tell(|value| *value += 1);
        assert_eq!(door.ask(|value| Ok(*value)).unwrap(), 2);
    }

    #[test]
    fn a_panic_ends_its_value_and_no_other() {
        let (bad, good) = (door(1), door(2));
        let error = bad.ask(|_| -> Result<(), _> { panic!("no luck") }).unwrap_err();
        assert!(matches!(&error, BackendError::Fatal(why) if why.contains("no luck")), "{error}");
        assert!(matches!(bad.ask(|value| Ok(*value)), Err(BackendError::Fatal(_))));
        assert_eq!(good.ask(|value| Ok(*value)).unwrap(), 2);
    }

    #[test]
    fn what_cannot_be_made_is_the_makers_error() {
        assert_eq!(Door::<i32>::open(|| Err("no room")).unwrap().err(), Some("no room"));
    }
}
