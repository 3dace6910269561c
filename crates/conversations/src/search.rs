//! Full-text search: how texts are split into words, how what a person types becomes a query, and snippets.
//!
//! SQLite's tokenizer takes letters between spaces for a word. Scripts that write without spaces get an invisible one
//! (U+200B) before each letter in what is searched, and the same in queries: a word is then found as its letters in a
//! row. Snippets are freed of them again.

use perch_protocol::conversations::SnippetPart;
use rusqlite::Connection;

use crate::error::StoreError;

/// Stands between letters of scripts that have no spaces.
const GAP: char = '\u{200b}';
/// Stand around what matched. No text has them: they are no characters.
const BEGIN: char = '\u{fdd0}';
const END: char = '\u{fdd1}';
/// Longest query, in characters, and most words of it.
const LONGEST_QUERY: usize = 1000;
const MOST_WORDS: usize = 32;

/// Scripts that are written without spaces: Thai, Lao, Myanmar, Khmer, kana, Han.
fn is_unspaced(c: char) -> bool {
    matches!(c as u32, 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x31F0..=0x31FF
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0xFF66..=0xFF9F | 0x20000..=0x3FFFF)
}

/// A text as it is searched.
pub(crate) fn split(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after = false;
    for c in text.chars() {
        let unspaced = is_unspaced(c);
        if unspaced || after {
            out.push(GAP);
        }
        after = unspaced;
        out.push(if c == '\0' { ' ' } else { c });
    }
    out
}

/// What a person typed as FTS5 has it; `None` where it has no words. Nothing in it is syntax but quotes around words.
///
/// # Errors
/// When it is too long.
pub(crate) fn query(typed: &str) -> Result<Option<String>, StoreError> {
    if typed.chars().count() > LONGEST_QUERY {
        return Err(StoreError::invalid("q", format!("look for at most {LONGEST_QUERY} characters")));
    }
    let mut terms: Vec<String> = Vec::new();
    let mut open_end = false;
    // Odd pieces stand in quotes.
    for (index, piece) in typed.split('"').enumerate() {
        let quoted = index % 2 == 1;
        let words: Vec<&str> = if quoted {
            vec![piece]
        } else {
            piece.split(|c: char| c.is_whitespace() || c == '\0').collect()
        };
        for word in words {
            if word.chars().any(char::is_alphanumeric) {
                terms.push(format!("\"{}\"", split(word)));
                open_end = !quoted;
            }
        }
    }
    if terms.len() > MOST_WORDS {
        return Err(StoreError::invalid("q", format!("look for at most {MOST_WORDS} words")));
    }
    if terms.is_empty() {
        return Ok(None);
    }
    // Whoever types is not at the end of the last word yet.
    Ok(Some(format!("{}{}", terms.join(" "), if open_end { "*" } else { "" })))
}

/// Puts a conversation's title into the index.
pub(crate) fn index_title(connection: &Connection, seq: i64, title: &str) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM titles WHERE rowid = ?1")?.execute([seq])?;
    connection
        .prepare_cached("INSERT INTO titles(rowid, text) VALUES (?1, ?2)")?
        .execute((seq, split(title)))?;
    Ok(())
}

/// The surroundings of what matched in the message or title `seq`.
pub(crate) fn snippet(
    connection: &Connection,
    table: &'static str,
    query: &str,
    seq: i64,
) -> Result<Vec<SnippetPart>, StoreError> {
    let sql = format!(
        "SELECT snippet({table}, 0, '{BEGIN}', '{END}', '…', 24) FROM {table} WHERE {table} MATCH ?1 AND rowid = ?2"
    );
    let text: String = connection.prepare_cached(&sql)?.query_row((query, seq), |row| row.get(0))?;
    Ok(parts(&text))
}

fn parts(text: &str) -> Vec<SnippetPart> {
    let mut parts: Vec<SnippetPart> = Vec::new();
    let mut push = |text: String, matched: bool| match parts.last_mut() {
        Some(last) if last.matched == matched => last.text.push_str(&text),
        _ if text.is_empty() => {}
        _ => parts.push(SnippetPart { text, matched }),
    };
    let mut matched = false;
    for piece in text.split_inclusive([BEGIN, END]) {
        let clean = piece.chars().filter(|c| ![GAP, BEGIN, END].contains(c));
        push(clean.map(|c| if c.is_whitespace() { ' ' } else { c }).collect(), matched);
        matched = piece.ends_with(BEGIN);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_typed_is_syntax_but_quotes() {
        let typed = |text: &str| query(text).unwrap().unwrap();
        assert_eq!(typed("bread AND (water"), "\"bread\" \"AND\" \"(water\"*");
        assert_eq!(typed("\"sour dough\" bread"), "\"sour dough\" \"bread\"*");
        assert_eq!(typed("text:NEAR \"sour dough\""), "\"text:NEAR\" \"sour dough\"");
        assert_eq!(typed("a\0b"), "\"a\" \"b\"*");
        assert_eq!(typed("\"unclosed"), "\"unclosed\"");
        for empty in ["", "  ", "***", "\"\"", "- : ^", "\0"] {
            assert_eq!(query(empty).unwrap(), None, "{empty:?}");
        }
        assert!(query(&"x".repeat(1001)).is_err() && query(&"x ".repeat(40)).is_err());
    }

    #[test]
    fn snippets_are_split_at_what_matched_and_free_of_gaps() {
        let part = |text: &str, matched| SnippetPart { text: text.into(), matched };
        let text = format!("…the {BEGIN}sour{END} {BEGIN}dough{END}\n{GAP}猫{GAP}が…");
        let expected = [
            part("…the ", false),
            part("sour", true),
            part(" ", false),
            part("dough", true),
            part(" 猫が…", false),
        ];
        assert_eq!(parts(&text), expected);
    }
}
