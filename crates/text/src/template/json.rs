//! `tojson` as Hugging Face has it: Python's `json.dumps(value, ensure_ascii=False, indent=…, separators=…,
//! sort_keys=…)`, which is not Jinja's own (no HTML escapes).

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::budget::Budget;

struct Style {
    item: String,
    key: String,
    indent: Option<usize>,
    sort_keys: bool,
    ensure_ascii: bool,
}

/// The filter. `budget` bounds its output and its time.
pub(super) fn tojson(value: &Value, options: Kwargs, budget: &Budget) -> Result<Value, Error> {
    let indent = match options.get::<Option<Value>>("indent")? {
        Some(v) if !v.is_none() => {
            Some(v.as_usize().filter(|n| *n <= 16).ok_or_else(|| invalid("indent is out of range"))?)
        }
        _ => None,
    };
    let separators = match options.get::<Option<Value>>("separators")? {
        Some(v) if !v.is_none() => {
            Some((v.get_item_by_index(0)?.to_string(), v.get_item_by_index(1)?.to_string()))
        }
        _ => None,
    };
    let default = || ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned());
    let (item, key) = separators.unwrap_or_else(default);
    let style = Style {
        item,
        key,
        indent,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let mut writer = Writer { out: String::new(), style, budget };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

struct Writer<'a> {
    out: String,
    style: Style,
    budget: &'a Budget,
}

/// Deeper values are refused, as Python's recursion limit would.
const MAX_DEPTH: usize = 200;

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid("tojson: the value is nested too deeply"));
        }
        self.budget.check(self.out.len())?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map => self.map(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => {
                self.list('[', ']', depth, value.try_iter()?.map(|item| (None, item)))?;
            }
            other => return Err(invalid(format!("Object of type {other} is not JSON serializable"))),
        }
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.style.sort_keys {
            keys.sort();
        }
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            let item = value.get_item(&key)?;
            entries.push((Some(key), item));
        }
        self.list('{', '}', depth, entries.into_iter())
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        entries: impl Iterator<Item = (Option<Value>, Value)>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut first = true;
        for (key, item) in entries {
            if !first {
                let separator = self.style.item.clone();
                self.out.push_str(&separator);
            }
            first = false;
            self.new_line(depth + 1);
            if let Some(key) = key {
                match key.kind() {
                    ValueKind::String => self.string(key.as_str().unwrap_or_default()),
                    _ => self.string(&key.to_string()),
                }
                let separator = self.style.key.clone();
                self.out.push_str(&separator);
            }
            self.value(&item, depth + 1)?;
        }
        if !first {
            self.new_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.style.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        use std::fmt::Write;
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.style.ensure_ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// A number as Python writes it.
pub(super) fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(x) if x.is_nan() => "NaN".to_owned(),
        Ok(x) if x.is_infinite() => (if x > 0.0 { "Infinity" } else { "-Infinity" }).to_owned(),
        Ok(x) if x != 0.0 && !(1e-4..1e16).contains(&x.abs()) => {
            // Python writes at least two digits of exponent, and its sign.
            let text = format!("{x:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        Ok(x) => format!("{x:?}"),
        Err(_) => value.to_string(),
    }
}
