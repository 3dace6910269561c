//! Text for people: sizes, ages, tables, and what is safe to put on a terminal.

use std::time::{Duration, SystemTime};

/// Bytes in the unit that leaves the fewest digits, as file managers show them: `395 MB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let count = count as f64;
    match units.into_iter().find(|&(size, _)| count >= size) {
        Some((size, unit)) if count / size < 10.0 => format!("{:.1} {unit}", count / size),
        Some((size, unit)) => format!("{:.0} {unit}", count / size),
        None => format!("{count:.0} B"),
    }
}

/// How long ago something was: `3 days ago`.
pub(crate) fn ago(then: Option<SystemTime>) -> String {
    let Some(age) = then.and_then(|then| SystemTime::now().duration_since(then).ok()) else {
        return String::new();
    };
    format!("{} ago", duration(age))
}

/// A length of time in its largest unit: `2 hours`.
pub(crate) fn duration(time: Duration) -> String {
    let units =
        [(86_400 * 365, "year"), (86_400 * 30, "month"), (86_400, "day"), (3_600, "hour"), (60, "minute")];
    let seconds = time.as_secs();
    let (size, unit) = units.into_iter().find(|&(size, _)| seconds >= size).unwrap_or((1, "second"));
    let count = seconds / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// Rows under a heading, columns as wide as their longest cell.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let body = rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    [line(heading)].into_iter().chain(body).collect::<Vec<_>>().join("\n")
}

/// Text from a model as a terminal may show it: without the control characters that move, colour or write elsewhere.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|&c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let shown = [0, 999, 1_000, 395_000_000, 1_250_000_000].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "395 MB", "1.2 GB"]);
    }

    #[test]
    fn times_take_the_largest_unit() {
        assert_eq!(duration(Duration::from_secs(1)), "1 second");
        assert_eq!(duration(Duration::from_secs(7_300)), "2 hours");
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = [["a".to_string(), "b".to_string()], ["long".to_string(), "c".to_string()]];
        assert_eq!(table(["X", "Y"], &rows), "X     Y\na     b\nlong  c");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tc\u{9b}"), "a[2Jb\n\tc");
    }
}
