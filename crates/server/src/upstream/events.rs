//! The events of another server's stream, one `data:` line each, as OpenAI's API has them.

/// Longest line that is read; what goes beyond it is dropped.
pub(super) const MAX_LINE: usize = 4 << 20;

/// Lines as they arrive, in pieces of any size.
#[derive(Default)]
pub(super) struct Events {
    /// The line that is not whole yet.
    line: Vec<u8>,
    overflows: bool,
}

impl Events {
    /// The data of the lines that `chunk` completes.
    pub(super) fn read(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        let mut whole = Vec::new();
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            match self.line.len() + part.len() <= MAX_LINE {
                true => self.line.extend_from_slice(part),
                false => self.overflows = true,
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                whole.extend(line.strip_prefix(b"data:").map(|data| data.trim_ascii().to_vec()));
            }
        }
        whole
    }

    /// Whether a line was too long.
    pub(super) fn overflows(&self) -> bool {
        self.overflows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_they_are_cut() {
        let stream = b": hello\n\ndata: {\"a\":1}\r\n\nevent: x\ndata:[DONE]\n\ndata: half";
        for size in 1..stream.len() {
            let mut events = Events::default();
            let read: Vec<Vec<u8>> = stream.chunks(size).flat_map(|chunk| events.read(chunk)).collect();
            assert_eq!(read, [&b"{\"a\":1}"[..], b"[DONE]"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_it_may() {
        let mut events = Events::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..8).all(|_| events.read(&piece).is_empty()));
        assert!(events.overflows() && events.line.len() <= MAX_LINE);
    }
}
