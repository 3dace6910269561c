//! Sums by day and model, and how long they stay.

use perch_protocol::{Outcome, Percentiles, UsageBy};
use perch_usage::{Entry, Ledger, Span, file_bytes};

use crate::support::{counted, day, entry, file};

#[test]
fn days_and_models_are_added_up_and_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let full = || Outcome::Failed("queue_full".to_owned());
    ledger
        .add(&[entry(0, "a", Outcome::Completed), entry(0, "a", full()), entry(0, "b", Outcome::Cancelled)])
        .unwrap();
    ledger
        .add(&[entry(1, "a", Outcome::Completed), entry(1, "", full()), entry(40, "old", Outcome::Completed)])
        .unwrap();

    let days = ledger.rows(Span::last(30), UsageBy::Day, None).unwrap();
    let found: Vec<_> = days.iter().map(|row| (row.day.clone().unwrap(), row.requests, row.failed)).collect();
    assert_eq!(found, [(day(1).to_string(), 2, 1), (day(0).to_string(), 3, 1)]);
    assert_eq!(days[0].model, None);

    let models = ledger.rows(Span::last(30), UsageBy::Model, None).unwrap();
    let found: Vec<_> = models.iter().map(|row| (row.model.clone().unwrap(), row.requests)).collect();
    assert_eq!(found, [("a".to_owned(), 3), (String::new(), 1), ("b".to_owned(), 1)]);
    let a = &models[0];
    assert_eq!((a.completed, a.failed, a.cancelled), (2, 1, 0));
    assert_eq!((a.prompt_tokens, a.cached_tokens, a.completion_tokens), (30, 12, 60));
    assert_eq!(a.errors, [("queue_full".to_owned(), 1)].into());

    let total = ledger.total(Span::last(30), None).unwrap();
    assert_eq!((total.requests, total.day, total.model), (5, None, None));
    assert_eq!(total.errors["queue_full"], 2);
    assert_eq!(ledger.total(Span::last(1), Some("a")).unwrap().requests, 2);
    assert_eq!(ledger.total(Span::last(1), Some("nobody")).unwrap().requests, 0);
    assert_eq!(ledger.since().unwrap(), Some(day(40)));
    assert_eq!(ledger.days_of_models(Span::all()).unwrap().len(), 5);
}

#[test]
fn percentiles_are_over_all_that_is_added_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let timed = |days_ago, ms| Entry { first_token_ms: Some(ms), ..entry(days_ago, "a", Outcome::Completed) };
    let entries: Vec<Entry> = (1..=20).map(|ms| timed(0, ms)).chain([timed(1, 31)]).collect();
    ledger.add(&entries).unwrap();
    let total = ledger.total(Span::last(2), None).unwrap();
    assert_eq!(total.first_token_ms, Some(Percentiles { p50: 11, p95: 20, p99: 31 }));
    // 400 ms is in the bucket from 400 to 415.
    assert_eq!(total.duration_ms, Some(Percentiles { p50: 407, p95: 407, p99: 407 }));
    let yesterday = &ledger.rows(Span::last(2), UsageBy::Day, None).unwrap()[0];
    assert_eq!(yesterday.first_token_ms, Some(Percentiles { p50: 31, p95: 31, p99: 31 }));
}

#[test]
fn only_answers_in_full_say_how_long_an_answer_takes() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let refused = Entry { first_token_ms: None, ..entry(0, "a", Outcome::Failed("queue_full".to_owned())) };
    ledger.add(&[refused, entry(0, "b", Outcome::Cancelled)]).unwrap();
    let total = ledger.total(Span::all(), None).unwrap();
    assert_eq!(total.duration_ms, None);
    assert_eq!(total.first_token_ms.unwrap().p50, 25);
}

#[test]
fn old_days_are_forgotten_and_their_models_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let entries = [0, 29, 30, 500].map(|ago| entry(ago, &format!("model-{ago}"), Outcome::Completed));
    ledger.add(&entries).unwrap();
    ledger.forget(30).unwrap();
    let models = ledger.rows(Span::all(), UsageBy::Model, None).unwrap();
    let names: Vec<_> = models.into_iter().filter_map(|row| row.model).collect();
    assert_eq!(names, ["model-0", "model-29"]);
    drop(ledger);
    let bytes = std::fs::read(file(dir.path())).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("model-500"), "what is forgotten is overwritten");
}

#[test]
fn a_year_of_many_models_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    for ago in 0..400 {
        let day: Vec<Entry> = (0..200u64)
            .map(|i| Entry {
                first_token_ms: Some(20 + i * 37 % 3000),
                duration_ms: 300 + i * 391 % 60_000,
                ..entry(ago, ["one", "two", "three", "four", "five"][i as usize % 5], Outcome::Completed)
            })
            .collect();
        ledger.add(&day).unwrap();
    }
    ledger.forget(400).unwrap();
    assert_eq!(ledger.total(Span::all(), None).unwrap().requests, 80_000);
    drop(ledger);
    let bytes = file_bytes(dir.path());
    assert!(bytes < 6 << 20, "{bytes} bytes");
}

#[test]
fn erasing_leaves_nothing_that_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    Ledger::open(dir.path()).unwrap().add(&[entry(0, "secret-model", Outcome::Completed)]).unwrap();
    assert_eq!(counted(dir.path()), 1);
    std::fs::write(dir.path().join("usage.damaged-1.db"), "secret-model").unwrap();
    std::fs::write(dir.path().join("usage.damaged-1.db-wal"), "secret-model").unwrap();
    let erased = Ledger::erase(dir.path()).unwrap();
    assert_eq!((erased.requests, erased.days), (1, 1));
    assert_eq!(counted(dir.path()), 0);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("secret-model"), "{}", path.display());
    }
}

#[test]
fn looking_makes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Ledger::look(dir.path()).unwrap().is_none());
    assert!(Ledger::look(&dir.path().join("none")).unwrap().is_none());
    Ledger::erase(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn two_processes_count_into_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = Ledger::open(dir.path()).unwrap();
    let mut other = Ledger::open(dir.path()).unwrap();
    for _ in 0..20 {
        one.add(&[entry(0, "a", Outcome::Completed)]).unwrap();
        other.add(&[entry(0, "a", Outcome::Completed)]).unwrap();
    }
    assert_eq!(counted(dir.path()), 40);
    assert_eq!(one.rows(Span::all(), UsageBy::Model, None).unwrap().len(), 1);
}
