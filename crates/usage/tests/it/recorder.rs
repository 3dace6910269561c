//! Counting beside a server.

use std::time::{Duration, Instant};

use perch_usage::{Recorder, Span, UsageError};

use crate::support::{counted, file, record};

#[tokio::test]
async fn what_was_noted_is_there_when_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(dir.path(), true, 400);
    for _ in 0..100 {
        recorder.note(&record("a"));
    }
    let total = recorder.ask(|ledger| ledger.unwrap().total(Span::last(1), Some("a"))).await.unwrap();
    assert_eq!((total.requests, total.prompt_tokens, total.completion_tokens), (100, 300, 500));
    recorder.close();
    assert_eq!(counted(dir.path()), 100);
    assert!(!dir.path().join("usage.db-wal").exists());
    assert!(matches!(recorder.ask(|_| Ok(())).await, Err(UsageError::Closed)));
}

#[tokio::test]
async fn it_is_switched_on_and_off_while_it_runs_and_makes_no_file_while_off() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(dir.path(), false, 400);
    recorder.note(&record("a"));
    assert!(recorder.ask(|ledger| Ok(ledger.is_none())).await.unwrap());
    assert!(!file(dir.path()).exists());
    recorder.configure(true, 400);
    recorder.note(&record("a"));
    recorder.configure(false, 400);
    recorder.note(&record("a"));
    recorder.close();
    assert_eq!(counted(dir.path()), 1);
}

#[tokio::test]
async fn erased_while_it_counts_it_goes_on_from_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(dir.path(), true, 400);
    recorder.note(&record("a"));
    assert_eq!(recorder.erase().await.unwrap().requests, 1);
    recorder.note(&record("a"));
    recorder.close();
    assert_eq!(counted(dir.path()), 1);
}

#[test]
fn noting_takes_no_time_worth_speaking_of() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(dir.path(), true, 400);
    let (begun, record) = (Instant::now(), record("a"));
    for _ in 0..20_000 {
        recorder.note(&record);
    }
    // 20,000 that were each written and synced would take minutes; a loaded machine has room here.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
