//! Titles made from what was said first.

/// What a conversation is called before anything was said in it.
pub(crate) const NEW_TITLE: &str = "New conversation";

/// Longest title that is made, in characters.
const LONGEST: usize = 60;

/// A title for a conversation that begins with `text`: its first line with words in it, without marks of Markdown, cut
/// between words.
pub(crate) fn title_from(text: &str) -> String {
    let worth =
        |line: &&str| line.chars().any(char::is_alphanumeric) && !line.trim_start().starts_with("```");
    let Some(line) = text.lines().find(worth) else { return NEW_TITLE.to_owned() };
    let line = line.trim_start_matches(|c: char| c.is_whitespace() || "#>*-+_`|".contains(c));
    let kept = line.chars().map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c });
    let kept: String = kept.filter(|c| !"*`".contains(*c)).collect();
    let words: Vec<&str> = kept.split(' ').filter(|word| !word.is_empty()).collect();
    let mut title = String::new();
    let mut length = 0;
    for word in words {
        let more = word.chars().count() + usize::from(length > 0);
        if length + more > LONGEST {
            if length == 0 {
                title.extend(word.chars().take(LONGEST));
            }
            title.push('…');
            return title;
        }
        if length > 0 {
            title.push(' ');
        }
        title.push_str(word);
        length += more;
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_first_line_with_words_cut_between_words() {
        assert_eq!(title_from("How do I bake bread?"), "How do I bake bread?");
        assert_eq!(title_from("\n---\n## **Bread**, `quickly`\nmore"), "Bread, quickly");
        assert_eq!(title_from("```rust\nfn main() {}\n```"), "fn main() {}");
        assert_eq!(title_from(" \n\u{0}\n***"), NEW_TITLE);
        assert_eq!(title_from("a\u{0}b\tc"), "a b c");
        let long = title_from(&"word ".repeat(100));
        assert!(long.ends_with("word…") && long.chars().count() <= LONGEST + 1, "{long}");
        assert_eq!(title_from(&"猫".repeat(100)).chars().count(), LONGEST + 1);
    }
}
