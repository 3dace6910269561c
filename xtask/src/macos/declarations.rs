//! What Rust's bindings declare of C: which library has which functions and statics. A scan, not a parser: what it misses
//! shows as an undefined symbol when the program is linked, never as one that is there.
//!
//! Source: the Rust reference, "External blocks" (`link`, `link_name`).

/// An `extern` block.
#[derive(Debug, PartialEq)]
pub(super) struct Block {
    /// The libraries in its `#[link]`.
    pub(super) libraries: Vec<Library>,
    /// The names of its items for C.
    pub(super) symbols: Vec<String>,
}

/// A library of the system that a `#[link]` names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Library {
    pub(super) name: String,
    pub(super) framework: bool,
}

impl Library {
    pub(super) fn framework(name: &str) -> Self {
        Self { name: name.to_string(), framework: true }
    }
}

/// The blocks of one source file, in order. objc2 writes some as `extern_c! { … }`.
pub(super) fn blocks(source: &str) -> Vec<Block> {
    if !source.contains("extern") {
        return Vec::new();
    }
    let text = cleaned(source);
    let mut blocks = Vec::new();
    for (at, word) in text.match_indices("extern") {
        let Some((between, after)) = text[at + word.len()..].split_once('{') else { break };
        if !["\"C\"", "\"C-unwind\"", "_c!", "_c_unwind!", ""].contains(&between.trim()) {
            continue;
        }
        let attributes = text[..at].rsplit([';', '{', '}']).next().unwrap_or_default();
        let symbols = items(body(after)).filter_map(symbol).collect();
        blocks.push(Block { libraries: libraries(attributes), symbols });
    }
    blocks
}

/// The source without comments, and with nothing in its strings that could be taken for code.
fn cleaned(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '/' if rest.starts_with("//") => rest.find('\n').map_or("", |end| &rest[end..]),
            '/' if rest.starts_with("/*") => rest.split_once("*/").map_or("", |(_, after)| after),
            '"' => {
                let end = string_end(&rest[1..]) + 1;
                let keep = |c: &char| c.is_ascii_alphanumeric() || "_$.-".contains(*c);
                out.push('"');
                out.extend(rest[1..end].chars().filter(keep));
                out.push('"');
                rest.get(end + 1..).unwrap_or_default()
            }
            '\'' if rest.starts_with("'\\") => {
                rest.get(3..).and_then(|rest| rest.split_once('\'')).map_or("", |(_, after)| after)
            }
            '\'' => match rest[1..].char_indices().nth(1) {
                Some((at, '\'')) => &rest[at + 2..],
                // A lifetime.
                _ => &rest[1..],
            },
            _ => {
                out.push(first);
                &rest[first.len_utf8()..]
            }
        };
    }
    out
}

/// Where a string ends whose opening quote has been read.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at)
}

/// What lies before the brace that closes an opened block.
fn body(text: &str) -> &str {
    let mut depth = 1;
    let end = text.char_indices().find(|(_, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

/// The declarations in a block; not every semicolon ends one.
fn items(body: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    body.split(move |c| {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            _ => {}
        }
        c == ';' && depth == 0
    })
}

/// The libraries of `link(…)` and `cfg_attr(…, link(…))`.
fn libraries(attributes: &str) -> Vec<Library> {
    let packed: String = attributes.split_whitespace().collect();
    let links = packed.split("link(").skip(1).filter_map(|link| link.split(')').next());
    links
        .filter_map(|link| {
            let name = quoted(link, "name=\"")?.to_string();
            Some(Library { name, framework: link.contains("kind=\"framework\"") })
        })
        .collect()
}

/// The name for C of a declared function or static.
fn symbol(item: &str) -> Option<String> {
    let declared = item.trim_start();
    let end = attributes_end(declared);
    let attributes: String = declared[..end].split_whitespace().collect();
    let mut words = declared[end..].split(|c: char| !(c.is_ascii_alphanumeric() || "_$".contains(c)));
    words.find(|word| ["fn", "static"].contains(word))?;
    let name = words.find(|word| !["", "mut"].contains(word))?;
    // In the body of a macro a name can be a parameter.
    let named = quoted(&attributes, "link_name=\"").or((!name.contains('$')).then_some(name))?;
    Some(named.to_string())
}

fn attributes_end(item: &str) -> usize {
    let (mut depth, mut end) = (0, 0);
    for (at, c) in item.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            '#' => {}
            c if depth == 0 && !c.is_whitespace() => break,
            _ => {}
        }
        end = at + c.len_utf8();
    }
    end
}

fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_found_as_bindings_write_them() {
        let source = r#"
            /// extern "C" { pub fn in_a_comment(); }
            #[cfg_attr(feature = "link", link(name = "CoreFoundation", kind = "framework"))]
            extern "C" {}
            type Callback = unsafe extern "C" fn(i32) { };
            #[link(name = "objc", kind = "dylib")]
            unsafe extern "C-unwind" {
                #[deprecated = "use another fn; or {none}"]
                pub fn first(a: &'static u8, b: [u8; 4], f: extern "C" fn(u8)) -> i32;
                #[link_name = "second$NAME"]
                pub(crate) fn second();
                pub static mut third: c_int;
            }
            const BRACE: char = '{';
            extern_c! { pub fn fourth(); }
            macro_rules! m { ($name:ident) => { extern "C" { fn $name(); } } }
        "#;
        let block = |libraries: &[Library], symbols: &[&str]| Block {
            libraries: libraries.to_vec(),
            symbols: symbols.iter().map(|name| name.to_string()).collect(),
        };
        let objc = Library { name: "objc".to_string(), framework: false };
        let wanted = [
            block(&[Library::framework("CoreFoundation")], &[]),
            block(&[objc], &["first", "second$NAME", "third"]),
            block(&[], &["fourth"]),
            block(&[], &[]),
        ];
        assert_eq!(blocks(source), wanted);
    }
}
