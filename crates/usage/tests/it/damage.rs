//! Files that are not what was written.

use perch_protocol::Outcome;
use perch_usage::{Ledger, Recorder, UsageError, damaged_files};

use crate::support::{counted, entry, file, record};

fn damaged(folder: &std::path::Path) {
    let mut ledger = Ledger::open(folder).unwrap();
    let many: Vec<_> = (0..300).map(|ago| entry(ago, "a", Outcome::Completed)).collect();
    ledger.add(&many).unwrap();
    drop(ledger);
    let mut bytes = std::fs::read(file(folder)).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0x5a);
    std::fs::write(file(folder), bytes).unwrap();
}

#[test]
fn a_damaged_file_is_told_by_reading_and_set_aside_by_writing() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    let before = std::fs::read(file(dir.path())).unwrap();
    assert!(matches!(Ledger::look(dir.path()), Err(UsageError::Damaged(_))));
    assert!(damaged_files(dir.path()).is_empty());
    Ledger::open(dir.path()).unwrap().add(&[entry(0, "a", Outcome::Completed)]).unwrap();
    let aside = dir.path().join("usage.damaged-1.db");
    assert_eq!(damaged_files(dir.path()), std::slice::from_ref(&aside));
    assert_eq!(std::fs::read(aside).unwrap(), before);
    assert_eq!(counted(dir.path()), 1);
}

#[test]
fn what_is_no_database_is_set_aside_too() {
    for bytes in [&b"hello"[..], &[0; 4096], &[0xff; 100_000]] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(file(dir.path()), bytes).unwrap();
        Ledger::open(dir.path()).unwrap().add(&[entry(0, "a", Outcome::Completed)]).unwrap();
        assert_eq!(counted(dir.path()), 1);
    }
}

#[test]
fn a_database_with_other_tables_is_set_aside_too() {
    for tables in ["CREATE TABLE days(x)", "CREATE TABLE days(x); PRAGMA user_version = 1"] {
        let dir = tempfile::tempdir().unwrap();
        rusqlite::Connection::open(file(dir.path())).unwrap().execute_batch(tables).unwrap();
        Ledger::open(dir.path()).unwrap().add(&[entry(0, "a", Outcome::Completed)]).unwrap();
        assert_eq!(counted(dir.path()), 1);
        assert_eq!(damaged_files(dir.path()).len(), 1);
    }
}

#[test]
fn a_file_of_a_later_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Ledger::open(dir.path()).unwrap());
    let later = rusqlite::Connection::open(file(dir.path())).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    drop(later);
    let error = Ledger::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("later Perch"), "{error}");
    assert!(damaged_files(dir.path()).is_empty());
}

#[test]
fn a_damaged_file_can_be_erased() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    Ledger::erase(dir.path()).unwrap();
    assert!(!file(dir.path()).exists());
}

#[test]
fn nobody_sets_a_file_aside_that_another_process_has_open() {
    let dir = tempfile::tempdir().unwrap();
    drop(Ledger::open(dir.path()).unwrap());
    let held = Ledger::open(dir.path()).unwrap();
    let mut bytes = std::fs::read(file(dir.path())).unwrap();
    bytes[200..].fill(0x5a);
    std::fs::write(file(dir.path()), bytes).unwrap();
    assert!(matches!(Ledger::open(dir.path()), Err(UsageError::Damaged(_))));
    assert!(damaged_files(dir.path()).is_empty());
    drop(held);
}

#[tokio::test]
async fn a_file_that_breaks_while_it_is_open_is_begun_anew_and_counting_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(dir.path(), true, 400);
    recorder.note(&record("a"));
    recorder.ask(|_| Ok(())).await.unwrap();
    // Under the open file, as a bad disk would, but so that it is read anew.
    let other = rusqlite::Connection::open(file(dir.path())).unwrap();
    let broken = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'times'; \
                  PRAGMA schema_version = 1000;";
    other.execute_batch(broken).unwrap();
    drop(other);
    recorder.note(&record("b"));
    let counted = recorder.ask(|ledger| ledger.unwrap().total(perch_usage::Span::all(), None)).await.unwrap();
    assert_eq!(counted.requests, 1);
    assert_eq!(damaged_files(dir.path()).len(), 1);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_told_and_disturbs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let not_a_folder = dir.path().join("file");
    std::fs::write(&not_a_folder, "").unwrap();
    let recorder = Recorder::new(&not_a_folder, true, 400);
    recorder.note(&record("a"));
    let error = recorder.ask(|_| Ok(())).await.unwrap_err().to_string();
    assert!(error.contains("usage cannot be counted"), "{error}");
}
