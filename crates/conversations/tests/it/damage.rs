//! Damaged files: set aside by name, what can be read of them saved, and everything else goes on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use perch_conversations::{Store, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{Home, text};

/// Conversations that a file is filled with, and messages of each.
const CONVERSATIONS: usize = 30;
const MESSAGES: usize = 20;

/// All texts by message id.
fn everything(home: &Home) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for conversation in home.list() {
        all.extend(home.messages(&conversation.id).into_iter().map(|m| (m.id.clone(), text(&m))));
    }
    all
}

/// A folder with a sound file, and what is in it.
fn filled() -> (tempfile::TempDir, BTreeMap<String, String>) {
    static FILLED: OnceLock<(Vec<u8>, BTreeMap<String, String>)> = OnceLock::new();
    let (bytes, all) = FILLED.get_or_init(|| {
        let home = Home::new();
        for _ in 0..CONVERSATIONS {
            home.talk(MESSAGES / 2);
        }
        let all = everything(&home);
        assert_eq!(all.len(), CONVERSATIONS * MESSAGES);
        home.store.close();
        (fs::read(home.file()).unwrap(), all)
    });
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("conversations.db"), bytes).unwrap();
    (dir, all.clone())
}

/// Opens what `damage` made of a sound file.
fn opened(damage: impl FnOnce(&mut Vec<u8>)) -> (Home, BTreeMap<String, String>, Vec<u8>) {
    let (dir, all) = filled();
    let file = dir.path().join("conversations.db");
    let mut bytes = fs::read(&file).unwrap();
    damage(&mut bytes);
    fs::write(&file, &bytes).unwrap();
    let store = Store::open(dir.path()).unwrap();
    (Home { store, dir }, all, bytes)
}

/// The damaged file is there under its new name as it was, the store says so, and works.
fn is_set_aside(home: &Home, bytes: &[u8]) {
    let recovery = home.store.recovery().expect("the damage is found");
    assert_eq!(fs::read(&recovery.file).unwrap(), bytes, "the damaged file is as it was");
    let health = home.store.health();
    assert_eq!(health.status, "recovered");
    let message = health.message.unwrap();
    assert!(message.contains(recovery.file.to_str().unwrap()), "{message}");
    assert_eq!(health.recovered_messages, Some(everything(home).len() as u64));
    let turn = home.say(None, "life goes on");
    home.answer(&turn, "it does");
    assert_eq!(home.find("goes on").len(), 1);
}

#[test]
fn a_header_of_zeroes_loses_nothing() {
    for zeroes in [16, 100, 4096] {
        let (home, all, bytes) = opened(|bytes| bytes[..zeroes].fill(0));
        assert_eq!(everything(&home), all, "{zeroes}");
        assert_eq!(home.list().len(), CONVERSATIONS);
        is_set_aside(&home, &bytes);
    }
}

#[test]
fn a_file_that_was_cut_short_gives_what_is_left() {
    let (home, all, bytes) = opened(|bytes| bytes.truncate(bytes.len() / 2));
    let left = everything(&home);
    assert!(left.len() > all.len() / 8, "{} of {}", left.len(), all.len());
    assert!(left.iter().all(|(id, text)| all[id] == *text));
    is_set_aside(&home, &bytes);
}

#[test]
fn a_file_that_is_something_else_is_set_aside() {
    let (home, _, bytes) =
        opened(|bytes| *bytes = b"not a database, but long enough to be taken for one".repeat(200));
    assert!(everything(&home).is_empty());
    is_set_aside(&home, &bytes);
}

#[test]
fn flipped_bytes_are_found_or_hit_nothing() {
    let mut random = StdRng::seed_from_u64(1);
    let mut found = 0;
    for _ in 0..24 {
        let (home, all, bytes) = opened(|bytes| {
            for _ in 0..8 {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        });
        let left = everything(&home);
        if home.store.recovery().is_some() {
            found += 1;
            assert!(left.len() * 2 > all.len(), "{} of {}", left.len(), all.len());
            is_set_aside(&home, &bytes);
        } else {
            assert_eq!(left, all, "nothing was said, and something is gone");
        }
    }
    assert!(found > 12, "{found}");
}

#[test]
fn a_zeroed_page_takes_only_what_was_on_it() {
    let (home, all, bytes) = opened(|bytes| {
        let middle = bytes.len() / 2 / 4096 * 4096;
        bytes[middle..middle + 4096].fill(0);
    });
    let left = everything(&home);
    assert!(left.len() * 10 > all.len() * 8, "{} of {}", left.len(), all.len());
    is_set_aside(&home, &bytes);
}

/// A folder as a killed process leaves it: with a write-ahead log.
fn killed() -> (tempfile::TempDir, BTreeMap<String, String>) {
    let home = Home::new();
    for _ in 0..4 {
        home.talk(5);
    }
    let all = everything(&home);
    let copy = tempfile::tempdir().unwrap();
    for name in ["conversations.db", "conversations.db-wal"] {
        fs::copy(home.dir.path().join(name), copy.path().join(name)).unwrap();
    }
    (copy, all)
}

fn log(dir: &Path) -> std::path::PathBuf {
    dir.join("conversations.db-wal")
}

#[test]
fn a_log_that_a_killed_process_left_is_no_damage() {
    let (dir, all) = killed();
    let whole = fs::read(log(dir.path())).unwrap();
    assert!(whole.len() > 100_000);
    let home = Home { store: Store::open(dir.path()).unwrap(), dir };
    assert!(home.store.recovery().is_none());
    assert_eq!(everything(&home), all);
    // Nor is one that ends in the middle of a frame: what was not acknowledged is gone, and nothing else.
    let (dir, _) = killed();
    fs::write(log(dir.path()), &whole[..whole.len() - 1000]).unwrap();
    assert!(Store::open(dir.path()).unwrap().recovery().is_none());
}

#[test]
fn a_log_that_is_damaged_in_the_middle_is_found() {
    for at in [10, 20, 4000, 50_000] {
        let (dir, all) = killed();
        let mut bytes = fs::read(log(dir.path())).unwrap();
        bytes[at] ^= 1;
        fs::write(log(dir.path()), &bytes).unwrap();
        let home = Home { store: Store::open(dir.path()).unwrap(), dir };
        let recovery = home.store.recovery().unwrap_or_else(|| panic!("byte {at}")).clone();
        assert!(recovery.reason.contains("write-ahead log"), "{}", recovery.reason);
        let aside = recovery.file.with_file_name("conversations.damaged-1.db-wal");
        assert_eq!(fs::read(aside).unwrap(), bytes);
        assert!(everything(&home).iter().all(|(id, text)| all[id] == *text));
        home.say(None, "life goes on");
    }
}

#[test]
fn the_damage_is_told_until_the_file_is_gone() {
    let (home, _, _) = opened(|bytes| bytes[..100].fill(0));
    let file = home.store.recovery().unwrap().file.clone();
    let home = home.again();
    assert_eq!(home.store.recovery().unwrap().file, file);
    fs::remove_file(&file).unwrap();
    assert_eq!(home.store.health().status, "ok");
    let home = home.again();
    assert_eq!(home.store.health().status, "ok");
    // A second time gets a second name.
    home.store.close();
    fs::write(&file, "the first").unwrap();
    let mut bytes = fs::read(home.file()).unwrap();
    bytes[..100].fill(0);
    fs::write(home.file(), bytes).unwrap();
    let second = Store::open(home.dir.path()).unwrap();
    assert!(second.recovery().unwrap().file.ends_with("conversations.damaged-2.db"));
}

#[test]
fn a_file_of_a_later_perch_is_left_alone() {
    let (dir, _) = filled();
    let file = dir.path().join("conversations.db");
    let mut bytes = fs::read(&file).unwrap();
    bytes[60..64].copy_from_slice(&99u32.to_be_bytes());
    fs::write(&file, &bytes).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(
        matches!(error, StoreError::Unusable { .. }) && error.to_string().contains("later Perch"),
        "{error}"
    );
    assert_eq!(fs::read(&file).unwrap(), bytes);
}
