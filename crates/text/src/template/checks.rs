//! Checked forms of everything in a template that can make a large value out of small ones: the functions that
//! [`super::guard`] puts into its source, and minijinja's own filters behind a bound on what they may cost.

use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters};

use super::budget::Budget;
use super::{guard, json};

/// Bytes that a filter may make of a value with these arguments, at most.
type Cost = fn(&Value, &[Value], &Budget) -> Result<usize, Error>;

/// Installs them all.
pub(super) fn install(env: &mut Environment<'_>, budget: &Arc<Budget>) {
    install_operators(env, budget);
    let limits = budget.clone();
    env.add_filter("tojson", move |value: &Value, _ascii: Option<bool>, options: Kwargs| {
        json::tojson(value, options, &limits)
    });
    let limits = budget.clone();
    env.add_filter("replace", move |value: &str, from: &str, to: &str| {
        replace(value, from, to, None, &limits)
    });
    let checked: [(&str, Value, Cost); 16] = [
        ("string", Value::from_function(filters::string), same_size),
        ("list", Value::from_function(filters::list), same_size),
        ("pprint", Value::from_function(filters::pprint), same_size),
        ("sum", Value::from_function(filters::sum), same_size),
        ("sort", Value::from_function(filters::sort), same_size),
        ("unique", Value::from_function(filters::unique), same_size),
        ("map", Value::from_function(filters::map), same_size),
        ("reverse", Value::from_function(filters::reverse), same_size),
        ("title", Value::from_function(filters::title), same_size),
        ("upper", Value::from_function(filters::upper), same_size),
        ("lower", Value::from_function(filters::lower), same_size),
        ("batch", Value::from_function(filters::batch), padded),
        ("slice", Value::from_function(filters::slice), padded),
        ("indent", Value::from_function(filters::indent), indented),
        ("join", Value::from_function(filters::join), joined),
        ("format", Value::from_function(filters::format), formatted),
    ];
    for (name, filter, cost) in checked {
        let limits = budget.clone();
        env.add_filter(name, move |state: &mut State<'_, '_>, value: &Value, args: Rest<ValueOrKwargs>| {
            let mut all = vec![value.clone()];
            all.extend(args.iter().map(|arg| Value::from(arg.clone())));
            limits.make(cost(value, &all[1..], &limits)?)?;
            filter.call(state, &all)
        });
    }
}

fn install_operators(env: &mut Environment<'_>, budget: &Arc<Budget>) {
    let limits = budget.clone();
    env.add_function(guard::CAT, move |left: &Value, right: &Value| {
        limits.make(limits.weigh(left)?.saturating_add(limits.weigh(right)?))?;
        let text = |value: &Value| match value.kind() {
            ValueKind::Number if !value.is_integer() => json::number(value),
            _ => value.to_string(),
        };
        Ok::<_, Error>(Value::from(text(left) + &text(right)))
    });
    let limits = budget.clone();
    env.add_function(guard::SUM, move |value: &Value| {
        limits.make(match value.kind() {
            ValueKind::String => value.as_str().map_or(0, str::len),
            ValueKind::Seq | ValueKind::Iterable => value.len().unwrap_or(0).saturating_mul(24),
            _ => 0,
        })?;
        Ok::<_, Error>(value.clone())
    });
    let limits = budget.clone();
    env.add_function(guard::FIT, move |value: &Value| {
        limits.make(limits.weigh(value)?)?;
        Ok::<_, Error>(value.clone())
    });
}

fn same_size(value: &Value, _: &[Value], budget: &Budget) -> Result<usize, Error> {
    budget.weigh(value)
}

/// Filled up to the number given.
fn padded(value: &Value, args: &[Value], budget: &Budget) -> Result<usize, Error> {
    Ok(budget.weigh(value)?.saturating_add(largest_number(args).saturating_mul(24)))
}

fn indented(value: &Value, args: &[Value], budget: &Budget) -> Result<usize, Error> {
    let lines = value.as_str().map_or(1, |text| text.lines().count());
    Ok(budget.weigh(value)?.saturating_add(lines.saturating_mul(largest_number(args).max(4))))
}

/// What a join of `value` may cost; the first argument is the joiner.
pub(super) fn joined(value: &Value, args: &[Value], budget: &Budget) -> Result<usize, Error> {
    let joiner = args.first().and_then(Value::as_str).map_or(0, str::len);
    Ok(budget.weigh(value)?.saturating_add(value.len().unwrap_or(0).saturating_mul(joiner)))
}

/// What a formatted text may cost: each place of the pattern shows any of the arguments, padded to any width.
pub(super) fn formatted(pattern: &Value, args: &[Value], budget: &Budget) -> Result<usize, Error> {
    let pattern = pattern.as_str().unwrap_or_default();
    let mut shown = pattern.len();
    for arg in args {
        shown = shown.saturating_add(budget.weigh(arg)?);
    }
    // A width is a number in the pattern, or (`%*d`) an argument.
    let numbers = pattern.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
    let written = numbers.map(|n| n.parse().unwrap_or(usize::MAX)).max().unwrap_or(0);
    let given = if pattern.contains(['*', '{']) { largest_number(args) } else { 0 };
    let places = pattern.matches(['%', '{']).count();
    Ok(places
        .saturating_mul(shown.saturating_add(written).saturating_add(given))
        .saturating_add(pattern.len()))
}

/// The largest number among arguments, named ones included.
fn largest_number(args: &[Value]) -> usize {
    let number = |value: &Value| value.as_usize().unwrap_or(0);
    let named = |value: &Value| {
        let keys = (value.kind() == ValueKind::Map).then(|| value.try_iter().ok()).flatten();
        keys.into_iter()
            .flatten()
            .filter_map(|key| value.get_item(&key).ok())
            .map(|v| number(&v))
            .max()
            .unwrap_or(0)
    };
    args.iter().map(|value| number(value).max(named(value))).max().unwrap_or(0)
}

/// `str.replace`, at most `count` times.
pub(super) fn replace(
    text: &str,
    from: &str,
    to: &str,
    count: Option<usize>,
    budget: &Budget,
) -> Result<Value, Error> {
    let found = text.matches(from).count().min(count.unwrap_or(usize::MAX));
    budget.make(found.saturating_mul(to.len()).saturating_add(text.len()))?;
    Ok(Value::from(text.replacen(from, to, found)))
}
