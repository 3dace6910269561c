//! The detokenizer against a whole decode, and stop strings against a naive search.

mod common;

use common::{PLAIN, chatml_tokenizer, gguf, golden, unbase64};
use perch_text::{Detokenizer, StopStrings, Tokenizer};
use proptest::prelude::*;

/// One tokenizer of each way of spelling bytes.
fn tokenizers() -> Vec<Tokenizer> {
    let all = golden("tokenizers.json");
    vec![
        chatml_tokenizer(),
        Tokenizer::from_gguf(gguf(&all["llama"]["gguf"])).unwrap(),
        Tokenizer::from_sentencepiece(&unbase64(&all["unigram"]["model"]), None).unwrap(),
        Tokenizer::from_gguf(gguf(&all["wordpiece"]["gguf"])).unwrap(),
    ]
}

/// What `String::from_utf8_lossy` makes of all bytes at once; the first space dropped where it is the tokenizer's own.
fn reference(tokenizer: &Tokenizer, ids: &[u32], strips: bool) -> String {
    let mut bytes = Vec::new();
    let mut at_start = strips;
    for id in ids.iter().filter(|id| !tokenizer.is_special(**id)) {
        let token = tokenizer.token_bytes(*id).unwrap_or_default();
        bytes.extend_from_slice(if at_start { token.strip_prefix(b" ").unwrap_or(token) } else { token });
        at_start &= token.is_empty();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_character_in_several_tokens_comes_out_whole() {
    for tokenizer in &tokenizers()[..2] {
        let ids = tokenizer.encode("a🙂é", PLAIN).unwrap();
        let mut detokenizer = Detokenizer::new(tokenizer, true);
        let parts: Vec<String> = ids.iter().map(|id| detokenizer.push(*id)).collect();
        assert!(parts.iter().all(|part| !part.contains('\u{FFFD}')), "{parts:?}");
        assert_eq!((parts.concat() + &detokenizer.finish()), "a🙂é");
    }
}

#[test]
fn bytes_that_are_no_character_become_replacement_characters_and_no_sooner_than_that_is_sure() {
    let all = golden("tokenizers.json");
    let tokenizer = Tokenizer::from_gguf(gguf(&all["llama"]["gguf"])).unwrap();
    let byte = |b: u8| {
        (0..tokenizer.vocab_size() as u32)
            .find(|id| {
                tokenizer.token_bytes(*id) == Some(&[b])
                    && tokenizer.token_text(*id).unwrap().starts_with("<0x")
            })
            .unwrap()
    };
    let mut detokenizer = Detokenizer::new(&tokenizer, true);
    assert_eq!(detokenizer.push(byte(0xF0)), "");
    assert_eq!(detokenizer.push(byte(0x9F)), "");
    assert_eq!(detokenizer.push(byte(b'x')), "\u{FFFD}x", "an unfinished character before a letter");
    assert_eq!(detokenizer.push(byte(0xFF)), "\u{FFFD}", "a byte that begins nothing");
    assert_eq!(detokenizer.push(byte(0xE2)), "");
    assert_eq!(detokenizer.finish(), "\u{FFFD}");
    assert_eq!(detokenizer.finish(), "");
}

#[test]
fn a_leading_space_belongs_to_the_text_when_it_goes_on_after_a_prompt() {
    let all = golden("tokenizers.json");
    let tokenizer = Tokenizer::from_gguf(gguf(&all["llama"]["gguf"])).unwrap();
    let ids = tokenizer.encode("the dog", PLAIN).unwrap();
    assert_eq!(tokenizer.decode(&ids, true), "the dog");
    let continued = |prompt: &[u32]| {
        let mut detokenizer = Detokenizer::new(&tokenizer, true).after(prompt);
        ids.iter().map(|id| detokenizer.push(*id)).collect::<String>()
    };
    assert_eq!(continued(&ids), " the dog");
    assert_eq!(continued(&[tokenizer.bos().unwrap()]), "the dog");
    assert_eq!(continued(&[]), "the dog");
}

#[test]
fn special_tokens_are_left_out_unless_they_are_to_be_shown() {
    let tokenizer = chatml_tokenizer();
    let end = tokenizer.special_id("<|im_end|>").unwrap();
    let start = tokenizer.special_id("<|im_start|>").unwrap();
    let mut ids = vec![start];
    ids.extend(tokenizer.encode("hi<think>", PLAIN).unwrap());
    ids.push(end);
    assert_eq!(tokenizer.decode(&ids, true), "hi<think>");
    assert_eq!(tokenizer.decode(&ids, false), "<|im_start|>hi<think><|im_end|>");
    let mut some = Detokenizer::new(&tokenizer, true).showing(vec![end]);
    assert_eq!(ids.iter().map(|id| some.push(*id)).collect::<String>(), "hi<think><|im_end|>");
    assert_eq!(tokenizer.decode(&[u32::MAX, 1 << 20], false), "", "unknown ids stand for nothing");
}

#[test]
fn a_stop_string_across_two_pieces_is_found() {
    let mut stops = StopStrings::new(vec!["\n\nUser:".into(), String::new()]);
    assert_eq!(stops.push("Hello\n"), perch_text::StopStep { text: "Hello".into(), stopped: None });
    assert_eq!(stops.push("\nUs").text, "");
    let step = stops.push("er: x");
    assert_eq!((step.text.as_str(), step.stopped.as_deref()), ("", Some("\n\nUser:")));
    assert_eq!(stops.push("more"), Default::default());
    assert_eq!(stops.finish(), "");
}

#[test]
fn only_what_may_become_a_stop_string_is_held_back() {
    let mut stops = StopStrings::new(vec!["aab".into()]);
    assert_eq!(stops.push("xaaaa").text, "xaa");
    assert_eq!(stops.push("c").text, "aac");
    assert_eq!(stops.push("aa").text, "");
    assert_eq!(stops.finish(), "aa");
}

#[test]
fn long_stop_strings_on_long_texts_take_linear_time() {
    let mut stops = StopStrings::new(vec!["a".repeat(50_000) + "b"; 4]);
    let start = std::time::Instant::now();
    let mut shown = 0;
    for _ in 0..100_000 {
        shown += stops.push("aaaaa").text.len();
    }
    assert_eq!(shown + stops.finish().len(), 500_000);
    assert!(start.elapsed().as_secs_f64() < 3.0, "{:?}", start.elapsed());
}

/// The first place where any stop string is complete; the longest of those that end there.
fn naive(text: &str, stops: &[String]) -> (String, Option<String>) {
    for end in 0..=text.len() {
        if !text.is_char_boundary(end) {
            continue;
        }
        let found =
            stops.iter().filter(|s| !s.is_empty() && text[..end].ends_with(*s)).max_by_key(|s| s.len());
        if let Some(stop) = found {
            return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
        }
    }
    (text.to_owned(), None)
}

fn pieces(text: &str, cuts: &[usize]) -> Vec<String> {
    let mut cuts: Vec<usize> =
        cuts.iter().map(|cut| cut % (text.len() + 1)).filter(|at| text.is_char_boundary(*at)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| text[pair[0]..pair[1]].to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pushing_tokens_one_by_one_equals_decoding_all(seed in proptest::collection::vec(0u32..1000, 0..40)) {
        thread_local!(static ALL: Vec<Tokenizer> = tokenizers());
        ALL.with(|all| {
            for (index, tokenizer) in all.iter().enumerate() {
                let mut detokenizer = Detokenizer::new(tokenizer, true);
                let streamed: String = seed.iter().map(|id| detokenizer.push(*id)).collect();
                let streamed = streamed + &detokenizer.finish();
                let whole = tokenizer.decode(&seed, true);
                assert_eq!(streamed, whole);
                assert_eq!(whole, reference(tokenizer, &seed, index > 0));
            }
        });
    }

    #[test]
    fn any_text_survives_byte_level_tokens(text in "\\PC{0,40}|[ a-c\u{e9}\u{1F642}\n\r\t]{0,40}") {
        thread_local!(static ONE: Tokenizer = chatml_tokenizer());
        ONE.with(|tokenizer| {
            let ids = tokenizer.encode(&text, PLAIN).unwrap();
            assert_eq!(tokenizer.decode(&ids, true), text);
        });
    }

    #[test]
    fn stop_strings_equal_a_naive_search_however_the_text_is_cut(
        text in "[ab\u{e9}]{0,30}",
        stops in proptest::collection::vec("[ab\u{e9}]{0,4}", 0..4),
        cuts in proptest::collection::vec(0usize..100, 0..8),
    ) {
        let mut watcher = StopStrings::new(stops.clone());
        let (mut shown, mut stopped) = (String::new(), None);
        for piece in pieces(&text, &cuts) {
            let step = watcher.push(&piece);
            shown += &step.text;
            stopped = stopped.or(step.stopped);
        }
        shown += &watcher.finish();
        prop_assert_eq!((shown, stopped), naive(&text, &stops));
    }
}
