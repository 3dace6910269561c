//! The figures that `perch bench` takes, as JSON and as text.

use std::fmt;

use serde::Serialize;

use crate::text::bytes;

/// Everything that was measured. The JSON's keys are part of the command's contract.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) version: &'static str,
    pub(crate) model: String,
    pub(crate) quantization: String,
    pub(crate) file_bytes: u64,
    pub(crate) cpu: String,
    pub(crate) threads: usize,
    pub(crate) load_s: f64,
    pub(crate) prefill: Option<Prefill>,
    pub(crate) decode: Vec<Decode>,
    pub(crate) first_token: Option<FirstToken>,
    pub(crate) throughput: Vec<Throughput>,
    pub(crate) memory: Memory,
    /// What was left out, and why.
    pub(crate) left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Prefill {
    pub(crate) tokens: usize,
    pub(crate) per_s: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Decode {
    pub(crate) depth: usize,
    pub(crate) per_s: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct FirstToken {
    pub(crate) prefix_tokens: usize,
    pub(crate) new_tokens: usize,
    pub(crate) cold_ms: f64,
    pub(crate) cached_ms: f64,
    /// Tokens that really came from the cache: whole blocks.
    pub(crate) cached_tokens: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) streams: usize,
    pub(crate) per_s: f64,
}

/// Resident bytes, mapped weights included.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Memory {
    pub(crate) after_load_bytes: u64,
    pub(crate) peak_bytes: u64,
    /// KV held at the end, cached prefixes included.
    pub(crate) kv_bytes: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}, {})", self.model, self.quantization, bytes(self.file_bytes))?;
        writeln!(f, "perch {} on {}, {} threads\n", self.version, self.cpu, self.threads)?;
        let mut row = |name: String, value: String| writeln!(f, "{name:<44} {value:>16}");
        row("load".into(), format!("{:.2} s", self.load_s))?;
        if let Some(prefill) = &self.prefill {
            row(format!("prefill, {} tokens", prefill.tokens), format!("{:.1} tokens/s", prefill.per_s))?;
        }
        for decode in &self.decode {
            row(format!("decode after {} tokens", decode.depth), format!("{:.1} tokens/s", decode.per_s))?;
        }
        if let Some(first) = &self.first_token {
            let prompt = first.prefix_tokens + first.new_tokens;
            row(format!("first token, {prompt} tokens, cold"), format!("{:.0} ms", first.cold_ms))?;
            let cached = format!("first token, {prompt} tokens, {} cached", first.cached_tokens);
            row(cached, format!("{:.0} ms", first.cached_ms))?;
        }
        for throughput in &self.throughput {
            let plural = if throughput.streams == 1 { "" } else { "s" };
            let name = format!("throughput, {} stream{plural}", throughput.streams);
            row(name, format!("{:.1} tokens/s", throughput.per_s))?;
        }
        row("memory after load".into(), bytes(self.memory.after_load_bytes))?;
        row("memory at most".into(), bytes(self.memory.peak_bytes))?;
        row("of which KV at the end".into(), bytes(self.memory.kv_bytes))?;
        for reason in &self.left_out {
            writeln!(f, "left out: {reason}")?;
        }
        Ok(())
    }
}
