//! What Python offers to a template beyond minijinja: string methods, `raise_exception`, `strftime_now`, and bounded
//! versions of everything that can make a long text out of a short one.

use std::sync::Arc;
use std::time::SystemTime;

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::budget::Budget;
use super::json;

/// The words of `raise_exception`, marked through minijinja's chain of sources.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Adds the functions, filters and methods of one rendering.
pub(super) fn install(env: &mut Environment<'_>, budget: &Arc<Budget>, now: Option<SystemTime>) {
    env.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message.to_string())))
    });
    env.add_function("strftime_now", move |format: &str| strftime(format, now));
    python_tests(env);
    let limits = budget.clone();
    env.add_filter("tojson", move |value: &Value, _ascii: Option<bool>, options: Kwargs| {
        json::tojson(value, options, &limits)
    });
    let limits = budget.clone();
    env.add_filter("replace", move |value: &str, from: &str, to: &str| {
        replace(value, from, to, None, &limits)
    });
    let limits = budget.clone();
    env.add_filter("indent", move |state: &mut State<'_, '_>, value: &str, args: Rest<Value>| {
        let widest = args.iter().filter_map(Value::as_usize).max().unwrap_or(4);
        limits.check(value.lines().count().saturating_mul(widest).saturating_add(value.len()))?;
        let mut all = vec![Value::from(value)];
        all.extend(args.iter().cloned());
        Value::from_function(filters::indent).call(state, &all)
    });
    let limits = budget.clone();
    env.add_filter("join", move |state: &mut State<'_, '_>, value: &Value, args: Rest<Value>| {
        let joiner = args.first().and_then(Value::as_str).unwrap_or_default();
        limits.check(joined_len(value, joiner, &limits)?)?;
        let mut all = vec![value.clone()];
        all.extend(args.iter().cloned());
        Value::from_function(filters::join).call(state, &all)
    });
    let limits = budget.clone();
    env.set_unknown_method_callback(move |state, value, method, args| {
        string_method(value, method, args, &limits).unwrap_or_else(|| {
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
        })
    });
    let limits = budget.clone();
    env.set_formatter(move |out, state, value| {
        // Objects are written by their own Display; text is what grows.
        limits.write(value.as_str().map_or(1, str::len))?;
        match value.kind() {
            ValueKind::Number if !value.is_integer() => Ok(out.write_str(&json::number(value))?),
            _ => minijinja::escape_formatter(out, state, value),
        }
    });
}

/// Where Python's idea of a kind is not minijinja's: `None` cannot be iterated, an undefined value is empty, strings
/// and dictionaries are sequences, a boolean is a number.
fn python_tests(env: &mut Environment<'_>) {
    use ValueKind::{Bool, Iterable, Map, Number, Seq, String, Undefined};
    env.add_test("iterable", |v: &Value| matches!(v.kind(), Seq | Iterable | Map | String | Undefined));
    env.add_test("sequence", |v: &Value| matches!(v.kind(), Seq | Map | String | Undefined));
    env.add_test("number", |v: &Value| matches!(v.kind(), Number | Bool));
    for name in ["length", "count"] {
        env.add_filter(name, |v: &Value| match v.kind() {
            Undefined => Ok(0),
            _ => v.len().ok_or_else(|| {
                let reason = format!("object of type {} has no length", v.kind());
                Error::new(ErrorKind::InvalidOperation, reason)
            }),
        });
    }
}

/// The methods that pycompat lacks or that need a bound.
fn string_method(
    value: &Value,
    method: &str,
    args: &[Value],
    budget: &Budget,
) -> Option<Result<Value, Error>> {
    let text = value.as_str()?;
    let arg = |index: usize| args.get(index).and_then(Value::as_str);
    Some(match (method, arg(0), arg(1)) {
        ("replace", Some(from), Some(to)) => {
            let count = args.get(2).and_then(Value::as_i64).and_then(|n| usize::try_from(n).ok());
            replace(text, from, to, count, budget)
        }
        ("join", ..) => match args.first() {
            Some(list) => match joined_len(list, text, budget).and_then(|len| budget.check(len)) {
                Ok(()) => return None,
                Err(error) => Err(error),
            },
            None => return None,
        },
        ("removeprefix", Some(prefix), _) => Ok(text.strip_prefix(prefix).unwrap_or(text).into()),
        ("removesuffix", Some(suffix), _) => Ok(text.strip_suffix(suffix).unwrap_or(text).into()),
        ("partition", Some(by), _) if !by.is_empty() => {
            let (head, tail) = text.split_once(by).map_or((text, None), |(head, tail)| (head, Some(tail)));
            Ok(thirds(head, tail.map_or("", |_| by), tail.unwrap_or("")))
        }
        ("rpartition", Some(by), _) if !by.is_empty() => {
            let (head, tail) = text.rsplit_once(by).map_or((None, text), |(head, tail)| (Some(head), tail));
            Ok(thirds(head.unwrap_or(""), head.map_or("", |_| by), tail))
        }
        _ => return None,
    })
}

fn thirds(head: &str, by: &str, tail: &str) -> Value {
    Value::from(Tuple::from(vec![Value::from(head), Value::from(by), Value::from(tail)]))
}

fn replace(text: &str, from: &str, to: &str, count: Option<usize>, budget: &Budget) -> Result<Value, Error> {
    let found = text.matches(from).count().min(count.unwrap_or(usize::MAX));
    budget.check(found.saturating_mul(to.len()).saturating_add(text.len()))?;
    Ok(Value::from(text.replacen(from, to, found)))
}

/// Bytes that a join would write, at least.
fn joined_len(list: &Value, joiner: &str, budget: &Budget) -> Result<usize, Error> {
    let mut len = 0usize;
    if matches!(list.kind(), ValueKind::Seq | ValueKind::Iterable) {
        for item in list.try_iter()? {
            len = len.saturating_add(joiner.len()).saturating_add(item.as_str().map_or(1, str::len));
            if len > budget.longest() {
                break;
            }
        }
    }
    Ok(len)
}

/// Python's `datetime.now().strftime(format)`, in local time.
fn strftime(format: &str, now: Option<SystemTime>) -> Result<String, Error> {
    let failed = |e: jiff::Error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}"));
    let now = jiff::Timestamp::try_from(now.unwrap_or_else(SystemTime::now)).map_err(failed)?;
    jiff::fmt::strtime::format(format, &now.to_zoned(jiff::tz::TimeZone::system())).map_err(failed)
}
