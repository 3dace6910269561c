//! `Wrap`: lines that end between words, as wide as the terminal.
//!
//! A word is held back until it ends, because only then is it known on which line it stands; nothing that was shown is
//! taken back. Lines of code pass as they came. Colours take no room.

use std::mem;

use unicode_width::UnicodeWidthChar;

/// Breaks lines between words.
#[derive(Debug, Default)]
pub(super) struct Wrap {
    /// Columns of a line; `None` breaks nowhere.
    width: Option<usize>,
    /// Columns that are taken on this line.
    column: usize,
    /// Columns before what goes on with a list's item.
    indent: usize,
    /// Spaces before the word that is held back.
    spaces: usize,
    word: String,
    word_width: usize,
}

impl Wrap {
    /// Lines of so many columns.
    pub(super) fn new(width: Option<usize>) -> Self {
        Self { width, ..Self::default() }
    }

    /// Adds the next text to `out`. `verbatim` is code, in which a line ends where it says.
    pub(super) fn put(&mut self, text: &str, verbatim: bool, out: &mut String) {
        if self.width.is_none() {
            out.push_str(text);
            return;
        }
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let escape =
                if c == '\x1b' { rest.find('m').map_or(rest.len(), |at| at + 1) } else { c.len_utf8() };
            let (now, later) = rest.split_at(escape);
            rest = later;
            match c {
                '\x1b' => self.word.push_str(now),
                '\n' => {
                    self.flush(out);
                    out.push('\n');
                    (self.column, self.indent, self.spaces) = (0, 0, 0);
                }
                _ if verbatim => {
                    self.flush(out);
                    out.push(c);
                    self.column += c.width().unwrap_or(0);
                }
                ' ' => {
                    self.flush(out);
                    self.spaces += 1;
                }
                _ => {
                    let wide = c.width().unwrap_or(0);
                    self.word.push(c);
                    self.word_width += wide;
                    // Between signs of two columns, as Chinese has them, a line may end anywhere.
                    if wide > 1 {
                        self.flush(out);
                    }
                }
            }
        }
    }

    /// Shows the word that is held back.
    pub(super) fn flush(&mut self, out: &mut String) {
        let (word, wide) = (mem::take(&mut self.word), mem::take(&mut self.word_width));
        if wide == 0 {
            out.push_str(&word);
            return;
        }
        let spaces = mem::take(&mut self.spaces);
        let begins = self.column == 0;
        if !begins && self.width.is_some_and(|width| self.column + spaces + wide > width) {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', self.indent));
            self.column = self.indent;
        } else {
            out.extend(std::iter::repeat_n(' ', spaces));
            self.column += spaces;
        }
        if begins && is_bullet(&word) {
            self.indent = self.column + wide + 1;
        }
        out.push_str(&word);
        // A word longer than a line goes on where the terminal breaks it.
        let width = self.width.unwrap_or(usize::MAX).max(1);
        self.column = (self.column + wide - 1) % width + 1;
    }
}

/// `•`, `1.` or `12)`.
fn is_bullet(word: &str) -> bool {
    let number = word.strip_suffix(['.', ')']);
    word == "•"
        || number.is_some_and(|n| !n.is_empty() && n.len() < 4 && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(text: &str, width: usize, piece: usize) -> String {
        let (mut wrap, mut out) = (Wrap::new(Some(width)), String::new());
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(piece).for_each(|piece| wrap.put(&piece.iter().collect::<String>(), false, &mut out));
        wrap.flush(&mut out);
        out
    }

    #[test]
    fn lines_end_between_words() {
        assert_eq!(wrapped("one two three four", 9, 1), "one two\nthree\nfour");
        assert_eq!(wrapped("exactly ten", 11, 1), "exactly ten");
        assert_eq!(wrapped("a\n\nb c", 1, 1), "a\n\nb\nc");
        assert_eq!(wrapped("incomprehensibilities are", 8, 1), "incomprehensibilities\nare");
    }

    #[test]
    fn items_of_lists_hang() {
        assert_eq!(wrapped("• one two\n  • three four", 9, 1), "• one two\n  • three\n    four");
        assert_eq!(wrapped("12. one two", 8, 1), "12. one\n    two");
    }

    #[test]
    fn colours_take_no_room_and_wide_signs_take_two_columns() {
        assert_eq!(wrapped("\x1b[36mab\x1b[0m cd", 5, 20), "\x1b[36mab\x1b[0m cd");
        assert_eq!(wrapped("日本語", 4, 1), "日本\n語");
    }

    #[test]
    fn code_and_lines_without_a_width_pass_as_they_came() {
        let (mut wrap, mut out) = (Wrap::new(Some(4)), String::new());
        wrap.put("let  a = 1;\n", true, &mut out);
        assert_eq!(out, "let  a = 1;\n");
        let mut free = Wrap::new(None);
        free.put("a b", false, &mut out);
        assert!(out.ends_with("a b"));
    }

    #[test]
    fn no_word_is_lost_however_the_text_is_cut() {
        let text = "One **two** \x1b[1mthree\x1b[0m, four-five\n1. six seven eight nine ten\n\n  - eleven";
        for width in 1..30 {
            let whole = wrapped(text, width, text.len());
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&whole), words(text), "{width}");
        }
    }
}
