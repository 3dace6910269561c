//! `Markdown`: text as it streams in, with headings, emphasis, code and lists shown as a terminal can.
//!
//! What was shown is never taken back, so that a selection or a scrolled view stays as it is: a mark is held back until
//! the next character tells what it is, and a word until it ends, see [`Wrap`]. Text that is not styled passes as it came.

use std::mem;

use super::wrap::Wrap;

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const ITALIC: &str = "\x1b[3m";
const HEADING: &str = "\x1b[1;4m";
const CODE: &str = "\x1b[36m";

/// A stream of Markdown on its way to a terminal.
#[derive(Debug, Default)]
pub(super) struct Markdown {
    styled: bool,
    /// Held back until it is known what it is.
    held: String,
    /// Nothing of this line has been shown yet.
    inside_line: bool,
    fence: bool,
    /// This line is a fence's first or last.
    fence_line: bool,
    heading: bool,
    bold: bool,
    italic: bool,
    code: bool,
    /// The last character shown; emphasis opens after a space and closes after a word.
    last: char,
    width: Option<usize>,
    wrap: Wrap,
}

impl Markdown {
    /// Styles if told to, in lines of so many columns if there is a limit.
    pub(super) fn new(styled: bool, width: Option<usize>) -> Self {
        Self { styled, last: ' ', width, wrap: Wrap::new(width), ..Self::default() }
    }

    /// What to show for the next piece of text.
    pub(super) fn push(&mut self, text: &str) -> String {
        if !self.styled {
            return text.to_string();
        }
        let (mut out, mut piece) = (String::new(), String::new());
        for c in text.chars() {
            self.take(c, &mut piece);
            self.wrap.put(&piece, self.fence || self.fence_line, &mut out);
            piece.clear();
        }
        out
    }

    /// What was held back, and an end to all styles.
    pub(super) fn finish(&mut self) -> String {
        let mut out = String::new();
        if self.styled {
            let mut piece = String::new();
            self.release(&mut piece);
            piece.push_str(RESET);
            self.wrap.put(&piece, self.fence || self.fence_line, &mut out);
            self.wrap.flush(&mut out);
        }
        *self = Self::new(self.styled, self.width);
        out
    }

    fn take(&mut self, c: char, out: &mut String) {
        if c == '\n' {
            self.release(out);
            self.end_line(out);
            return;
        }
        if !self.inside_line {
            self.held.push(c);
            if !may_begin_a_mark(&self.held) {
                self.begin_line(out);
            }
            return;
        }
        match c {
            _ if self.fence || self.fence_line => self.show(c, out),
            '*' if !self.code => {
                self.held.push('*');
                if self.held == "***" {
                    self.release(out);
                }
            }
            '`' => {
                self.release(out);
                self.code = !self.code;
                if !self.code {
                    out.push_str(RESET);
                }
                self.restyle(out);
            }
            _ => {
                self.emphasis(Some(c), out);
                self.show(c, out);
            }
        }
    }

    /// The beginning of a line is known: shows what it means.
    fn begin_line(&mut self, out: &mut String) {
        self.inside_line = true;
        let held = mem::take(&mut self.held);
        let trimmed = held.trim_start();
        let indent = &held[..held.len() - trimmed.len()];
        if trimmed.starts_with("```") {
            self.fence = !self.fence;
            self.fence_line = true;
            out.push_str(&format!("{RESET}{DIM}{held}"));
            return;
        }
        if self.fence {
            out.push_str(&format!("{CODE}{held}"));
            return;
        }
        let hashes = trimmed.chars().take_while(|&c| c == '#').count();
        let rest = match trimmed.strip_prefix(['-', '*', '+']).and_then(|rest| rest.strip_prefix(' ')) {
            _ if (1..=6).contains(&hashes) && trimmed[hashes..].starts_with(' ') => {
                self.heading = true;
                out.push_str(HEADING);
                trimmed[hashes..].trim_start().to_string()
            }
            Some(rest) => {
                out.push_str(&format!("{indent}• "));
                rest.to_string()
            }
            None => held.clone(),
        };
        self.last = ' ';
        for c in rest.chars() {
            self.take(c, out);
        }
    }

    fn end_line(&mut self, out: &mut String) {
        if self.heading || self.bold || self.italic || self.code || self.fence_line || self.fence {
            out.push_str(RESET);
        }
        out.push('\n');
        (self.heading, self.bold, self.italic, self.code) = (false, false, false, false);
        (self.fence_line, self.inside_line, self.last) = (false, false, ' ');
    }

    /// Shows what is held, as what it is by now.
    fn release(&mut self, out: &mut String) {
        if !self.inside_line && !self.held.is_empty() {
            self.begin_line(out);
        }
        self.emphasis(None, out);
    }

    /// Decides what held stars are, now that the character after them is known.
    fn emphasis(&mut self, next: Option<char>, out: &mut String) {
        let stars = mem::take(&mut self.held);
        if stars.is_empty() {
            return;
        }
        let opens = next.is_some_and(|c| !c.is_whitespace()) && !self.last.is_alphanumeric();
        let closes = !self.last.is_whitespace();
        let turn = |on: bool| if on { closes } else { opens };
        let strong = stars.len() >= 2 && turn(self.bold);
        let light = stars.len() != 2 && turn(self.italic);
        if !strong && !light {
            out.push_str(&stars);
            self.last = '*';
            return;
        }
        self.bold ^= strong;
        self.italic ^= light;
        out.push_str(RESET);
        self.restyle(out);
    }

    /// Sets the styles that are on, after a reset.
    fn restyle(&self, out: &mut String) {
        for (on, style) in
            [(self.heading, HEADING), (self.bold, BOLD), (self.italic, ITALIC), (self.code, CODE)]
        {
            if on {
                out.push_str(style);
            }
        }
    }

    fn show(&mut self, c: char, out: &mut String) {
        out.push(c);
        self.last = c;
    }
}

/// Whether more is needed to tell what a line begins with.
fn may_begin_a_mark(held: &str) -> bool {
    let text = held.trim_start();
    let only = |mark: char| text.chars().all(|c| c == mark);
    match text.chars().next() {
        None => held.len() < 12,
        Some('#') => only('#') && text.len() <= 6,
        Some('`') => only('`') && text.len() < 3,
        Some('-' | '+' | '*') => text.len() == 1,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, piece: usize) -> String {
        let mut markdown = Markdown::new(true, None);
        let chars: Vec<char> = text.chars().collect();
        let mut out: String =
            chars.chunks(piece).map(|piece| markdown.push(&piece.iter().collect::<String>())).collect();
        out.push_str(&markdown.finish());
        out
    }

    fn plain(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("\x1b[") {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            rest = &rest[rest.find('m').unwrap() + 1..];
        }
        out + rest
    }

    #[test]
    fn marks_become_styles() {
        assert_eq!(shown("a **b** c", 1), format!("a {RESET}{BOLD}b{RESET} c{RESET}"));
        assert_eq!(shown("*b*", 1), format!("{RESET}{ITALIC}b{RESET}{RESET}"));
        assert_eq!(shown("`x*y*`", 1), format!("{CODE}x*y*{RESET}{RESET}"));
        assert_eq!(shown("## Title\nx", 1), format!("{HEADING}Title{RESET}\nx{RESET}"));
        assert_eq!(shown("- one\n- two", 1), format!("• one\n• two{RESET}"));
    }

    #[test]
    fn stars_that_are_no_marks_stay() {
        assert_eq!(plain(&shown("2 * 3 * 4 and a*b", 1)), "2 * 3 * 4 and a*b");
        assert_eq!(plain(&shown("#hashtag -5 *", 1)), "#hashtag -5 *");
    }

    #[test]
    fn code_in_a_fence_is_left_alone() {
        let text = "```c\nint *p = **q;\n# no heading\n- no list\n```\nafter";
        assert_eq!(plain(&shown(text, 1)), text);
    }

    #[test]
    fn the_size_of_the_pieces_makes_no_difference() {
        let text =
            "# A *b*\n\n1. **x**`y`\n  - z ***w***\n```rs\nlet a = *b;\n```\n\n**never closed\nplain _x_ *";
        for piece in 1..text.len() {
            assert_eq!(shown(text, piece), shown(text, 1));
        }
    }

    #[test]
    fn lines_end_between_words_but_not_in_code() {
        let mut markdown = Markdown::new(true, Some(12));
        let mut out =
            markdown.push("some **words here** go\n- a list of words\n```\nlet a = b + c + d;\n```\n");
        out.push_str(&markdown.finish());
        let expected = "some words\nhere go\n• a list of\n  words\n```\nlet a = b + c + d;\n```\n";
        assert_eq!(plain(&out), expected);
    }

    #[test]
    fn text_that_is_not_styled_passes_as_it_came() {
        let mut markdown = Markdown::new(false, None);
        assert_eq!(markdown.push("# **a**\n```"), "# **a**\n```");
        assert_eq!(markdown.finish(), "");
    }
}
