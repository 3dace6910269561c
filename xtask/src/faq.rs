//! `cargo xtask faq`: writes docs/faq.md from training/facts.txt, what the built-in guide learns. One source for both.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cache;

const HEAD: &str = "\
# Questions and answers

What the built-in guide has learnt to answer. `cargo xtask faq` writes this page from `training/facts.txt`; change it there.
";

/// Writes the page.
pub(crate) fn write() -> Result<()> {
    let path = page();
    fs::write(&path, text()?).with_context(|| format!("cannot write {}", path.display()))
}

fn page() -> PathBuf {
    cache::root().join("docs/faq.md")
}

fn text() -> Result<String> {
    let facts = cache::root().join("training/facts.txt");
    let facts = fs::read_to_string(&facts).with_context(|| format!("cannot read {}", facts.display()))?;
    markdown(&facts)
}

/// The page for the text of facts.txt: each fact's first question and its answer, by topic.
fn markdown(facts: &str) -> Result<String> {
    let mut page = HEAD.to_string();
    let mut answer = String::new();
    for (number, line) in facts.lines().enumerate() {
        let (mark, rest) = line.split_at_checked(2).unwrap_or((line, ""));
        match mark {
            "##" => write!(page, "\n## {}\n", rest.trim())?,
            "= " => answer.clear(),
            "? " if !answer.is_empty() => {
                write!(page, "\n**{}**<br>\n{}\n", rest.trim(), std::mem::take(&mut answer))?;
            }
            "? " | "! " | "# " | "#" | "" => {}
            _ if line.starts_with(['?', '!', '=']) => bail!("facts.txt:{}: {line:?}", number + 1),
            _ => {
                let space = if answer.is_empty() { "" } else { " " };
                write!(answer, "{space}{}", line.trim())?;
            }
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_each_first_question_and_its_whole_answer() {
        let facts = "# a remark\n\n## Ports\n\n= port | 8080\nIt is 8080.\nAlways.\n? Which port?\n? port\n! And the port?\n";
        let page = markdown(facts).unwrap();
        assert_eq!(page, format!("{HEAD}\n## Ports\n\n**Which port?**<br>\nIt is 8080. Always.\n"));
    }

    #[test]
    fn docs_faq_md_is_what_facts_txt_says() {
        let written = fs::read_to_string(page()).unwrap_or_default();
        assert!(text().unwrap() == written, "docs/faq.md is not current; run `cargo xtask faq`");
    }
}
