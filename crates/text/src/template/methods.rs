//! What Python offers to a template beyond minijinja: string methods, `raise_exception`, `strftime_now`, and
//! Python's idea of kinds.

use std::sync::Arc;
use std::time::SystemTime;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value};

use super::budget::Budget;
use super::checks::{self, formatted, joined, replace};
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
    checks::install(env, budget);
    let limits = budget.clone();
    env.set_unknown_method_callback(move |state, value, method, args| {
        string_method(value, method, args, &limits).unwrap_or_else(|| {
            minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
        })
    });
    let limits = budget.clone();
    env.set_formatter(move |out, state, value| {
        limits.write(limits.weigh(value)?)?;
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
        // These two are pycompat's own, behind a bound.
        ("join", ..) => {
            let list = args.first()?;
            joined(list, std::slice::from_ref(value), budget)
                .and_then(|cost| budget.make(cost))
                .err()
                .map(Err)?
        }
        ("format", ..) => formatted(value, args, budget).and_then(|cost| budget.make(cost)).err().map(Err)?,
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

/// Python's `datetime.now().strftime(format)`, in local time.
fn strftime(format: &str, now: Option<SystemTime>) -> Result<String, Error> {
    let failed = |e: jiff::Error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {e}"));
    let now = jiff::Timestamp::try_from(now.unwrap_or_else(SystemTime::now)).map_err(failed)?;
    jiff::fmt::strtime::format(format, &now.to_zoned(jiff::tz::TimeZone::system())).map_err(failed)
}
