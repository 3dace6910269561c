//! Finding markers in text that arrives in pieces.

/// The earliest occurrence of any marker: where, and which. Of two at one place the longer.
pub(crate) fn find_first<'m>(text: &str, markers: &[&'m str]) -> Option<(usize, &'m str)> {
    let found = markers.iter().filter_map(|marker| Some((text.find(marker)?, *marker)));
    found.min_by_key(|(at, marker)| (*at, usize::MAX - marker.len()))
}

/// Length of the longest suffix of `text` that may become a marker when more comes.
pub(crate) fn held_back(text: &str, markers: &[&str]) -> usize {
    let suffix = |marker: &&str| {
        let longest = text.len().min(marker.len() - 1);
        (1..=longest).rev().find(|len| text.as_bytes().ends_with(&marker.as_bytes()[..*len])).unwrap_or(0)
    };
    markers.iter().filter(|marker| !marker.is_empty()).map(suffix).max().unwrap_or(0)
}
