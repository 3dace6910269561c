//! Versions of a file, and its write-ahead log.

use rusqlite::{Connection, Result, TransactionBehavior};

/// The version of a file: how many steps it has taken, 0 for one that was never begun.
///
/// # Errors
/// What SQLite says.
pub fn version(connection: &Connection) -> Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Takes the steps that the file has not taken yet, each whole or not at all, and once even where two processes open it.
///
/// # Errors
/// What SQLite says.
pub fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<()> {
    for (step, sql) in (1i64..).zip(steps) {
        if version(connection)? >= step {
            continue;
        }
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if version(&tx)? < step {
            tx.execute_batch(sql)?;
            tx.pragma_update(None, "user_version", step)?;
        }
        tx.commit()?;
    }
    Ok(())
}

/// Moves the write-ahead log into the file, so that a log that is damaged later takes nothing with it. Whether all of it
/// could be moved.
pub fn fold(connection: &Connection) -> bool {
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    matches!(busy, Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_the_steps_that_it_lacks_and_a_step_that_fails_leaves_nothing() {
        let mut file = Connection::open_in_memory().unwrap();
        migrate(&mut file, &["CREATE TABLE a(x)"]).unwrap();
        assert_eq!(version(&file), Ok(1));
        let failing = ["CREATE TABLE a(x)", "CREATE TABLE b(x); CREATE TABLE a(x)"];
        assert!(migrate(&mut file, &failing).is_err());
        assert_eq!(version(&file), Ok(1));
        migrate(&mut file, &["CREATE TABLE a(x)", "CREATE TABLE b(x)"]).unwrap();
        assert_eq!(version(&file), Ok(2));
    }
}
