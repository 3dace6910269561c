//! `Report`: how many checks and tests passed, failed and were skipped, and why.

/// Totals over everything that one command ran.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: usize,
    failures: Vec<String>,
    skips: Vec<(String, String)>,
}

impl Report {
    pub(crate) fn passed(&mut self, count: usize) {
        self.passed += count;
    }

    pub(crate) fn failed(&mut self, what: impl Into<String>) {
        self.failures.push(what.into());
    }

    pub(crate) fn skipped(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        self.skips.push((what.into(), reason.into()));
    }

    pub(crate) fn failures(&self) -> usize {
        self.failures.len()
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failures.is_empty()
    }

    /// The last line is the totals alone, for scripts to read.
    pub(crate) fn print(&self) {
        println!();
        for (what, reason) in &self.skips {
            println!("skipped: {what}: {reason}");
        }
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        println!("{}", self.totals());
    }

    pub(crate) fn totals(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failures.len(), self.skips.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    pub(crate) fn totals_count_passes_failures_and_skips() {
        let mut report = Report::default();
        report.passed(3);
        report.skipped("a", "no model");
        assert!(report.is_good());
        report.failed("b");
        assert!(!report.is_good());
        assert_eq!(report.totals(), "3 passed, 1 failed, 1 skipped");
    }
}
