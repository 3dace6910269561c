//! `StopStrings`: finds the first stop string in a stream of text, across any borders.
//!
//! Invariants: the result depends on the text alone, not on how it was cut; the stop that is complete first wins (the
//! longest, where several end at one place); what is held back is the longest suffix that begins some stop string.
//! Work is linear in the text: one Knuth–Morris–Pratt automaton for each stop string.

/// Watches a stream of text for stop strings.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    automata: Vec<Automaton>,
    held: String,
    stopped: bool,
}

/// What a piece of text came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopStep {
    /// Text that can be shown now.
    pub text: String,
    /// The stop string that was found. Nothing comes after it.
    pub stopped: Option<String>,
}

#[derive(Debug, Clone)]
struct Automaton {
    stop: String,
    /// `fallback[i]`: length of the longest proper border of the first `i + 1` bytes.
    fallback: Vec<usize>,
    /// How many bytes of the stop string the text ends with.
    matched: usize,
}

impl Automaton {
    fn new(stop: String) -> Self {
        let bytes = stop.as_bytes();
        let mut fallback = vec![0; bytes.len()];
        let mut border = 0;
        for at in 1..bytes.len() {
            while border > 0 && bytes[at] != bytes[border] {
                border = fallback[border - 1];
            }
            border += usize::from(bytes[at] == bytes[border]);
            fallback[at] = border;
        }
        Self { stop, fallback, matched: 0 }
    }

    /// Whether the stop string is complete with this byte.
    fn advance(&mut self, byte: u8) -> bool {
        let bytes = self.stop.as_bytes();
        while self.matched > 0 && bytes[self.matched] != byte {
            self.matched = self.fallback[self.matched - 1];
        }
        self.matched += usize::from(bytes[self.matched] == byte);
        self.matched == bytes.len()
    }
}

impl StopStrings {
    /// Watches for any of these; empty ones are left out.
    pub fn new(stops: Vec<String>) -> Self {
        let automata = stops.into_iter().filter(|stop| !stop.is_empty()).map(Automaton::new).collect();
        Self { automata, ..Self::default() }
    }

    /// Takes the next piece of text and gives back what can be shown. After a stop, nothing more.
    pub fn push(&mut self, text: &str) -> StopStep {
        if self.stopped {
            return StopStep::default();
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (at, byte) in text.bytes().enumerate() {
            let complete = self.automata.iter_mut().filter_map(|a| a.advance(byte).then_some(&a.stop));
            if let Some(stop) = complete.max_by_key(|stop| stop.len()).cloned() {
                self.stopped = true;
                self.held.truncate(before + at + 1 - stop.len());
                return StopStep { text: std::mem::take(&mut self.held), stopped: Some(stop) };
            }
        }
        let keep = self.automata.iter().map(|a| a.matched).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        StopStep { text: std::mem::replace(&mut self.held, rest), stopped: None }
    }

    /// The end of the stream: what was held back was not a stop string after all.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}
