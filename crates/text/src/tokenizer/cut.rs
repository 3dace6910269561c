//! `Cutter`: cuts text into words before byte-level BPE, on plain string slices.
//!
//! The `tokenizers` crate does the same through strings that remember where each byte came from, which costs several
//! times the merging itself; a server encodes whole conversations on every turn. Only cuts that are provably the same
//! are taken over ([`Cutter::from_json`]); the rest stay with the crate.
//!
//! The families' patterns end in `\s+(?!\S)|\s+`: a run of spaces leaves its last one to the word behind it. That
//! look-ahead alone would need a backtracking matcher, so it is done by hand, and the rest of the pattern runs on a
//! linear-time automaton. Both ways match at the same places and differ only in runs of white space that no earlier
//! alternative takes, which is asked where it matters.

use fancy_regex::Regex;
use serde_json::Value;

use super::pre::GPT2;
use crate::TextError;

/// Cuts one after another: each divides the pieces that the ones before it left.
pub(super) struct Cutter {
    cuts: Vec<Cut>,
}

struct Cut {
    regex: Regex,
    /// What lies between matches is a piece too; else it is dropped.
    gaps: bool,
    /// Where the pattern's look-ahead was taken off: its earlier alternatives, at the place where the search begins.
    earlier: Option<Regex>,
}

const LOOK_AHEAD: &str = r"|\s+(?!\S)|\s+";

impl Cut {
    fn new(pattern: &str, gaps: bool) -> Result<Self, TextError> {
        let compile = |pattern: &str| Regex::new(pattern).map_err(TextError::invalid);
        Ok(match pattern.strip_suffix(LOOK_AHEAD) {
            Some(rest) => {
                let earlier = Some(compile(&format!(r"\G(?:{rest})"))?);
                Self { regex: compile(&format!(r"{rest}|\s+"))?, gaps, earlier }
            }
            None => Self { regex: compile(pattern)?, gaps, earlier: None },
        })
    }

    fn cut<'t>(&self, text: &'t str, out: &mut Vec<&'t str>) -> Result<(), TextError> {
        let failed = |e: fancy_regex::Error| TextError::Encode(e.to_string());
        let mut done = 0;
        let mut from = 0;
        while let Some(found) = self.regex.find_from_pos(text, from).map_err(failed)? {
            let (start, end) = (found.start(), self.end(text, found.start(), found.end())?);
            if start > done && self.gaps {
                out.push(&text[done..start]);
            }
            if end > start {
                out.push(&text[start..end]);
                from = end;
            } else {
                // An empty match cuts nothing; go on behind the next character.
                match text[start..].chars().next() {
                    Some(c) => from = start + c.len_utf8(),
                    None => break,
                }
            }
            done = end;
        }
        if done < text.len() && self.gaps {
            out.push(&text[done..]);
        }
        Ok(())
    }

    /// The end of a match, with its last space given back where the pattern's look-ahead would.
    fn end(&self, text: &str, start: usize, end: usize) -> Result<usize, TextError> {
        let Some(earlier) = &self.earlier else { return Ok(end) };
        let mut chars = text[start..end].chars();
        // One space alone, and a run at the end of the text, are matched as they are.
        let last = chars.next_back().filter(|_| end < text.len() && !chars.as_str().is_empty());
        match last {
            Some(last) if last.is_whitespace() && chars.all(char::is_whitespace) => {
                let taken =
                    earlier.find_from_pos(text, start).map_err(|e| TextError::Encode(e.to_string()))?;
                Ok(if taken.is_some() { end } else { end - last.len_utf8() })
            }
            _ => Ok(end),
        }
    }
}

impl Cutter {
    /// By these patterns; matches and gaps both become pieces.
    pub(super) fn new(patterns: &[String]) -> Result<Self, TextError> {
        let cuts = patterns.iter().map(|pattern| Cut::new(pattern, true)).collect::<Result<_, _>>()?;
        Ok(Self { cuts })
    }

    /// From a pre-tokenizer in `tokenizer.json`, if it is made of cuts and ends in the byte alphabet.
    pub(super) fn from_json(pre: &Value) -> Result<Option<Self>, TextError> {
        let one = std::slice::from_ref(pre);
        let steps = pre.get("pretokenizers").and_then(Value::as_array).map_or(one, Vec::as_slice);
        let Some((bytes, cuts)) = steps.split_last() else { return Ok(None) };
        if bytes["type"] != "ByteLevel" || bytes["add_prefix_space"] == true {
            return Ok(None);
        }
        let mut cutter = Self { cuts: Vec::new() };
        for step in cuts {
            match cut_from_json(step)? {
                Some(cut) => cutter.cuts.push(cut),
                None => return Ok(None),
            }
        }
        if bytes["use_regex"] != false {
            cutter.cuts.push(Cut::new(GPT2, true)?);
        }
        Ok(Some(cutter))
    }

    /// The pieces of `text`, in order; none of them empty.
    pub(super) fn cut<'t>(&self, text: &'t str) -> Result<Vec<&'t str>, TextError> {
        let mut pieces = if text.is_empty() { Vec::new() } else { vec![text] };
        for cut in &self.cuts {
            let mut next = Vec::with_capacity(pieces.len());
            for piece in &pieces {
                cut.cut(piece, &mut next)?;
            }
            pieces = next;
        }
        Ok(pieces)
    }
}

fn cut_from_json(step: &Value) -> Result<Option<Cut>, TextError> {
    let pattern = match step["type"].as_str() {
        Some("Split") => match (step["pattern"]["Regex"].as_str(), step["pattern"]["String"].as_str()) {
            (Some(regex), _) => regex.to_owned(),
            (_, Some(text)) => fancy_regex::escape(text).into_owned(),
            _ => return Ok(None),
        },
        Some("Digits") if step["individual_digits"] == true => return Cut::new(r"\p{N}", true).map(Some),
        Some("Digits") => return Cut::new(r"\p{N}+", true).map(Some),
        _ => return Ok(None),
    };
    match (step["behavior"].as_str(), step["invert"] == true) {
        (Some("Isolated"), _) => Cut::new(&pattern, true).map(Some),
        (Some("Removed"), true) => Cut::new(&pattern, false).map(Some),
        _ => Ok(None),
    }
}
