//! A report as people read it.

use perch_protocol::{Percentiles, UsageBy, UsageReport, UsageRow};

use crate::text;

const OFF: &str = "Requests are not counted. `perch usage on` begins to count them, by day and model: numbers alone, which stay \
                   on this machine.";

/// The report as text.
pub(super) fn shown(report: &UsageReport, by: UsageBy) -> String {
    let mut parts = Vec::new();
    if report.total.requests > 0 {
        parts.push(summary(report));
        parts.push(table(report, by));
    } else if report.enabled && report.problem.is_none() {
        parts.push(match &report.since {
            Some(since) => {
                format!("Nothing was asked from {} to {}; counts begin on {since}.", report.from, report.to)
            }
            None => "Requests are counted, but there was none yet.".to_owned(),
        });
    }
    if let Some(problem) = &report.problem {
        parts.push(problem.clone());
    }
    for file in &report.damaged_files {
        parts.push(format!(
            "A damaged file was set aside: {file}. `perch usage --erase` removes it, with all counts."
        ));
    }
    if !report.enabled {
        parts.push(OFF.to_owned());
    }
    parts.join("\n\n")
}

fn summary(report: &UsageReport) -> String {
    let UsageRow { requests, failed, cancelled, prompt_tokens, completion_tokens, errors, .. } =
        &report.total;
    let mut line = format!(
        "{} to {}: {requests} requests, {prompt_tokens} prompt tokens, {completion_tokens} generated",
        report.from, report.to
    );
    if *cancelled > 0 {
        line.push_str(&format!(", {cancelled} given up"));
    }
    if *failed > 0 {
        let codes: Vec<String> = errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
        line.push_str(&format!(", {failed} failed ({})", codes.join(", ")));
    }
    line
}

fn table(report: &UsageReport, by: UsageBy) -> String {
    let first = if by == UsageBy::Day { "DAY" } else { "MODEL" };
    let heading = [
        first,
        "REQUESTS",
        "FAILED",
        "PROMPT",
        "GENERATED",
        "FIRST TOKEN",
        "P95",
        "P99",
        "ANSWER",
        "P95",
        "P99",
    ];
    let rows: Vec<[String; 11]> = report.rows.iter().map(row).collect();
    text::table(heading, &rows)
}

fn row(row: &UsageRow) -> [String; 11] {
    let name = match (&row.day, row.model.as_deref()) {
        (Some(day), _) => day.clone(),
        (None, Some("")) => "(none)".to_owned(),
        (None, model) => model.unwrap_or_default().to_owned(),
    };
    let [counted, failed, prompt, generated] =
        [row.requests, row.failed, row.prompt_tokens, row.completion_tokens].map(|count| count.to_string());
    let [first, first_p95, first_p99] = times(row.first_token_ms);
    let [whole, whole_p95, whole_p99] = times(row.duration_ms);
    [name, counted, failed, prompt, generated, first, first_p95, first_p99, whole, whole_p95, whole_p99]
}

fn times(percentiles: Option<Percentiles>) -> [String; 3] {
    percentiles.map_or_else(Default::default, |Percentiles { p50, p95, p99 }| [p50, p95, p99].map(time))
}

/// Milliseconds in the unit that leaves few digits.
fn time(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        _ => format!("{:.1} min", ms as f64 / 6e4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> UsageReport {
        let times = Some(Percentiles { p50: 85, p95: 1_250, p99: 90_000 });
        let total = UsageRow {
            requests: 3,
            completed: 2,
            failed: 1,
            prompt_tokens: 40,
            completion_tokens: 60,
            errors: [("queue_full".to_owned(), 1)].into(),
            ..UsageRow::default()
        };
        let row =
            |model: &str| UsageRow { model: Some(model.to_owned()), first_token_ms: times, ..total.clone() };
        UsageReport {
            enabled: true,
            from: "2026-05-02".to_owned(),
            to: "2026-05-31".to_owned(),
            rows: vec![row("a"), UsageRow { first_token_ms: None, ..row("") }],
            total,
            ..UsageReport::default()
        }
    }

    #[test]
    fn a_report_is_a_line_and_a_table() {
        let text = shown(&report(), UsageBy::Model);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("3 requests") && lines[0].ends_with("1 failed (queue_full 1)"), "{text}");
        assert!(lines[2].starts_with("MODEL   REQUESTS"), "{text}");
        assert!(lines[3].contains("85 ms        1.2 s  1.5 min"), "{text}");
        assert!(lines[4].starts_with("(none)"), "{text}");
        assert!(!text.contains("not counted"));
    }

    #[test]
    fn what_is_off_or_wrong_is_said_with_what_to_do() {
        let off = UsageReport { enabled: false, ..UsageReport::default() };
        assert_eq!(shown(&off, UsageBy::Day), OFF);
        let kept = UsageReport { enabled: false, ..report() };
        assert!(shown(&kept, UsageBy::Day).contains("DAY") && shown(&kept, UsageBy::Day).ends_with(OFF));
        let damaged = UsageReport {
            enabled: true,
            problem: Some("it is damaged".to_owned()),
            ..UsageReport::default()
        };
        assert_eq!(shown(&damaged, UsageBy::Day), "it is damaged");
    }
}
