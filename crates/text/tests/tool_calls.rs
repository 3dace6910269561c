//! Tool calls in the raw answers of every family: whole, in single characters and broken.

mod common;

use common::answer::{THINK, parse, parse_pieces, thinking, tools, weather, with_tools};
use common::{chatml_tokenizer, tokenizer_with};
use perch_text::{
    ChatTemplate, OutputEvent, OutputFormat, ReasoningFormat, TemplateInput, TemplateTokens, ToolFormat,
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn hermes_calls_are_found_with_text_around_them() {
    let text = "Let me look.\n\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>\n\
                <tool_call>{\"name\": \"get_weather\", \"arguments\": \"{\\\"city\\\": \\\"Basel\\\"}\"}</tool_call>\nDone.";
    let answer = parse(with_tools(ToolFormat::Hermes), "", text);
    assert_eq!(answer.calls, [weather("Bern"), weather("Basel")]);
    assert_eq!(answer.content, "Let me look.\nDone.");
}

#[test]
fn a_call_that_writes_about_calls_is_one_call() {
    let body = json!({"name": "write", "arguments": {"path": "a.md", "text": "use <tool_call>{\"name\": \"x\"}</tool_call> {[\"\\"}});
    let answer = parse(with_tools(ToolFormat::Hermes), "", &format!("<tool_call>\n{body}\n</tool_call>"));
    assert_eq!(answer.calls, [("write".to_owned(), body["arguments"].clone())]);
    assert_eq!(answer.content, "");
}

#[test]
fn one_malformed_call_becomes_content_and_the_next_is_still_found() {
    let good = "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}</tool_call>";
    for bad in [
        "<tool_call>not json</tool_call>",
        "<tool_call>{\"name\": 7, \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"nam\u{e9}\u{2014}: 1}</tool_call>",
        "<tool_call>{\"name\": \"f\", }}</tool_call>",
        "<tool_call>{'name': 'f'}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"open quote: 1}</tool_call>",
        "<tool_call>",
        "<tool_call></tool_call>",
    ] {
        let text = format!("{bad} {good}");
        let answer = parse(with_tools(ToolFormat::Hermes), "", &text);
        assert_eq!(answer.calls, [weather("Bern")], "{bad}");
        assert_eq!(answer.content.trim_end(), bad, "{bad}");
    }
}

#[test]
fn a_forgotten_bracket_before_the_closing_tag_is_put_right() {
    let text = "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}\n</tool_call>";
    assert_eq!(parse(with_tools(ToolFormat::Hermes), "", text).calls, [weather("Bern")]);
}

#[test]
fn a_call_cut_off_by_the_token_limit_is_content() {
    let text = "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Be";
    let answer = parse(with_tools(ToolFormat::Hermes), "", text);
    assert_eq!((answer.content.as_str(), answer.calls.len()), (text, 0));
}

#[test]
fn qwen_coder_values_take_the_types_of_the_schema() {
    let text = "Sure.\n<tool_call>\n<function=get_weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n3\n</parameter>\n\
                <parameter=deep>\n{\"a\": [1]}\n</parameter>\n<parameter=on>\nTrue\n</parameter>\n</function>\n</tool_call>";
    let expected =
        ("get_weather".to_owned(), json!({"city": "12", "days": 3, "deep": {"a": [1]}, "on": true}));
    let answer = parse(with_tools(ToolFormat::QwenXml), "", text);
    assert_eq!((answer.calls, answer.content.as_str()), (vec![expected], "Sure."));
    // The opening tag forgotten; a value of several lines.
    let text = "<function=write>\n<parameter=path>\na.py\n</parameter>\n<parameter=text>\nif a < b:\n    x = \"</p>\"\n\n</parameter>\n</function>\n</tool_call>";
    let expected = ("write".to_owned(), json!({"path": "a.py", "text": "if a < b:\n    x = \"</p>\"\n"}));
    assert_eq!(parse(with_tools(ToolFormat::QwenXml), "", text).calls, [expected]);
}

#[test]
fn llama_calls_are_bare_json_of_an_offered_function() {
    let format = with_tools(ToolFormat::Llama3);
    let call = "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Bern\"}}";
    assert_eq!(parse(format, "", call).calls, [weather("Bern")]);
    assert_eq!(parse(format, "", &format!("<|python_tag|>{call}")).calls, [weather("Bern")]);
    assert_eq!(parse(format, "", &format!("{call}; {call}")).calls, [weather("Bern"), weather("Bern")]);
    assert_eq!(
        parse(format, "", "<function=get_weather>{\"city\": \"Bern\"}</function>").calls,
        [weather("Bern")]
    );
    // JSON that the user asked for.
    for json in [
        "{\"name\": \"Anna\", \"parameters\": {}}",
        "{\"city\": \"Bern\"}",
        "{\"name\": \"Anna\"}",
        "{}",
        "{",
        "[1, 2]",
    ] {
        let answer = parse(format, "", json);
        assert_eq!((answer.content.as_str(), answer.calls.len()), (json, 0));
    }
    let code = "<|python_tag|>print({'a': 1})";
    assert_eq!(parse(format, "", code).content, code);
}

#[test]
fn mistral_calls_are_found_in_both_notations() {
    let format = with_tools(ToolFormat::Mistral);
    let list = "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}, \"id\": \"a1b2c3d4e\"}, {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Basel\"}}]";
    assert_eq!(parse(format, "", list).calls, [weather("Bern"), weather("Basel")]);
    let named = "[TOOL_CALLS]get_weather[CALL_ID]abc[ARGS]{\"city\": \"Bern\"}[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Basel\"}";
    assert_eq!(parse(format, "", named).calls, [weather("Bern"), weather("Basel")]);
    let short = "Yes.[TOOL_CALLS]get_weather{\"city\": \"Bern\"}";
    assert_eq!(
        (parse(format, "", short).calls, parse(format, "", short).content.as_str()),
        (vec![weather("Bern")], "Yes.")
    );
}

#[test]
fn granite_deepseek_and_plain_json_calls_are_found() {
    let granite = "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}]";
    assert_eq!(parse(with_tools(ToolFormat::Granite), "", granite).calls, [weather("Bern")]);
    let phi = format!("{granite}<|/tool_call|>");
    assert_eq!(parse(with_tools(ToolFormat::Granite), "", &phi).calls, [weather("Bern")]);
    let r1 = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Bern\"}\n```<｜tool▁call▁end｜>\n\
              <｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Basel\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    let answer = parse(with_tools(ToolFormat::DeepSeek), "", r1);
    assert_eq!((answer.calls, answer.content.as_str()), (vec![weather("Bern"), weather("Basel")], ""));
    let v31 = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Bern\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    assert_eq!(parse(with_tools(ToolFormat::DeepSeek), "", v31).calls, [weather("Bern")]);
    let bare = "[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}]";
    assert_eq!(parse(with_tools(ToolFormat::Json), "", bare).calls, [weather("Bern")]);
}

#[test]
fn a_call_after_thinking_is_found_and_one_within_thinking_is_not() {
    let call = "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}</tool_call>";
    let answer = parse(thinking(ToolFormat::Hermes), "", &format!("<think>maybe {call}</think>\n\n{call}"));
    assert_eq!(answer.calls, [weather("Bern")]);
    assert_eq!(answer.reasoning, format!("maybe {call}"));
    assert_eq!(answer.content, "");
}

#[test]
fn without_tools_in_the_request_a_call_is_content() {
    let text = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
    let mut parser = with_tools(ToolFormat::Hermes).parser("", &[]);
    let mut events = parser.push(text);
    events.extend(parser.finish());
    assert_eq!(events, [OutputEvent::Content(text.to_owned())]);
}

#[test]
fn a_call_of_a_megabyte_in_small_pieces_takes_linear_time() {
    let body =
        json!({"name": "write", "arguments": {"path": "a", "text": "x {}[] \n".repeat(150_000)}}).to_string();
    for format in [ToolFormat::Hermes, ToolFormat::QwenXml, ToolFormat::Llama3] {
        let text = match format {
            ToolFormat::Hermes => format!("<tool_call>{body}</tool_call>"),
            ToolFormat::Llama3 => body.clone(),
            _ => format!(
                "<tool_call><function=write><parameter=text>{}</parameter></function></tool_call>",
                "x < y\n".repeat(200_000)
            ),
        };
        let pieces = text.as_bytes().chunks(4).map(|piece| std::str::from_utf8(piece).unwrap());
        let start = std::time::Instant::now();
        let answer = parse_pieces(with_tools(format), "", pieces);
        assert_eq!(answer.calls.len(), 1, "{format:?}");
        assert!(start.elapsed().as_secs_f64() < 4.0, "{format:?}: {:?}", start.elapsed());
    }
}

#[test]
fn formats_are_recognised_by_the_published_templates() {
    let read = |name: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/templates");
        std::fs::read_to_string(folder.join(name)).unwrap()
    };
    let tokenizer = chatml_tokenizer();
    let harmony = tokenizer_with(&[
        "<|channel|>",
        "<|message|>",
        "<|start|>",
        "<|end|>",
        "<|call|>",
        "<|return|>",
        "<|constrain|>",
    ]);
    let cases = [
        ("Qwen-Qwen2.5-7B-Instruct.jinja", &tokenizer, THINK, ToolFormat::Hermes),
        ("Qwen-Qwen3-0.6B.jinja", &tokenizer, THINK, ToolFormat::Hermes),
        ("Qwen3-Coder.jinja", &tokenizer, THINK, ToolFormat::QwenXml),
        ("HuggingFaceTB-SmolLM3-3B.jinja", &tokenizer, THINK, ToolFormat::Json),
        ("mistralai-Mistral-Nemo-Instruct-2407.jinja", &tokenizer, THINK, ToolFormat::Mistral),
        ("ibm-granite-granite-3.3-2B-Instruct.jinja", &tokenizer, THINK, ToolFormat::Granite),
        ("ibm-granite-granite-4.0.jinja", &tokenizer, THINK, ToolFormat::Hermes),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja", &tokenizer, THINK, ToolFormat::DeepSeek),
        ("deepseek-ai-DeepSeek-V3.1.jinja", &tokenizer, THINK, ToolFormat::DeepSeek),
        ("openai-gpt-oss-120b.jinja", &harmony, ReasoningFormat::Harmony, ToolFormat::Harmony),
        ("written-header-turns.jinja", &tokenizer, THINK, ToolFormat::Llama3),
        ("microsoft-Phi-3.5-mini-instruct.jinja", &tokenizer, THINK, ToolFormat::Json),
    ];
    for (name, tokenizer, reasoning, tools) in cases {
        let format = OutputFormat::detect(Some(&read(name)), tokenizer);
        // This vocabulary has <think>, as Qwen3's does; where neither it nor the template has it, there is none.
        assert_eq!(format, OutputFormat { reasoning, tools }, "{name}");
    }
    let llama = common::golden("tokenizers.json");
    let bare = perch_text::Tokenizer::from_gguf(common::gguf(&llama["gemma"]["gguf"])).unwrap();
    assert_eq!(OutputFormat::detect(Some("{{ messages }}"), &bare).reasoning, ReasoningFormat::None);
    let visible =
        OutputFormat::detect(Some(&read("openai-gpt-oss-120b.jinja")), &harmony).visible_tokens(&harmony);
    assert_eq!(visible.len(), 7);
}

#[test]
fn what_a_template_writes_for_a_call_is_what_the_parser_reads() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/templates");
    let user = json!({"role": "user", "content": "Weather?"});
    let arguments = json!({"city": "Zürich \"West\" </x> {[", "days": 3});
    let call = json!({"role": "assistant", "content": "", "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}]});
    for (name, tools_format, ending) in [
        ("Qwen-Qwen2.5-7B-Instruct.jinja", ToolFormat::Hermes, "<|im_end|>"),
        ("Qwen-Qwen3-0.6B.jinja", ToolFormat::Hermes, "<|im_end|>"),
        ("Qwen3-Coder.jinja", ToolFormat::QwenXml, "<|im_end|>"),
        ("mistralai-Mistral-Nemo-Instruct-2407.jinja", ToolFormat::Mistral, "</s>"),
        ("Mistral-Small-3.2-24B-Instruct-2506.jinja", ToolFormat::Mistral, "</s>"),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja", ToolFormat::DeepSeek, "<｜end▁of▁sentence｜>"),
        ("deepseek-ai-DeepSeek-V3.1.jinja", ToolFormat::DeepSeek, "<｜end▁of▁sentence｜>"),
        ("written-header-turns.jinja", ToolFormat::Llama3, "<|eot_id|>"),
        ("openai-gpt-oss-120b.jinja", ToolFormat::Harmony, "<|call|>"),
        ("ibm-granite-granite-4.0.jinja", ToolFormat::Hermes, "<|end_of_text|>"),
    ] {
        let source = std::fs::read_to_string(folder.join(name)).unwrap();
        let template =
            ChatTemplate::new(&source, TemplateTokens { eos: "</s>".into(), ..Default::default() }).unwrap();
        let render = |messages: &[Value], add_generation_prompt| {
            let input = TemplateInput {
                messages,
                tools: Some(&tools()),
                add_generation_prompt,
                ..Default::default()
            };
            template.render(&input).unwrap()
        };
        let prompt = render(std::slice::from_ref(&user), true);
        let whole = render(&[user.clone(), call.clone()], false);
        // Templates that open thinking for the model do not write it for a turn that is over.
        let shared = prompt.bytes().zip(whole.bytes()).take_while(|(a, b)| a == b).count();
        // Not within a marker: `<think>` and `<｜tool▁calls▁begin｜>` begin alike.
        let shared = (0..=shared)
            .rev()
            .find(|at| whole.is_char_boundary(*at) && !whole[..*at].ends_with('<'))
            .unwrap();
        let text = whole[shared..].split(ending).next().unwrap();
        let reasoning = if tools_format == ToolFormat::Harmony { ReasoningFormat::Harmony } else { THINK };
        let answer = parse(OutputFormat { reasoning, tools: tools_format }, &prompt[..shared], text);
        assert_eq!(answer.calls, [("get_weather".to_owned(), arguments.clone())], "{name}: {text:?}");
        assert_eq!(answer.content.trim(), "", "{name}");
    }
}

/// Pieces of answers, right and wrong, from which random answers are put together.
const FRAGMENTS: &[&str] = &[
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"x\"}}",
    "{\"name\": \"",
    "\"",
    "{",
    "}",
    "[",
    "]",
    "[TOOL_CALLS]",
    "[ARGS]",
    "get_weather",
    "<function=get_weather>",
    "<parameter=city>",
    "</parameter>",
    "</function>",
    "<|python_tag|>",
    ";",
    "hello",
    " ",
    "\n",
    "é🙂",
    "<",
    "<|tool_call|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "```json\n",
    "```",
    "\\",
];

fn without_space(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_character_of_an_answer_is_lost_however_it_is_cut(
        parts in proptest::collection::vec(0..FRAGMENTS.len(), 0..14),
        cuts in proptest::collection::vec(0usize..200, 0..10),
        tools in 0usize..7,
    ) {
        let text: String = parts.iter().map(|part| FRAGMENTS[*part]).collect();
        let formats = [ToolFormat::Json, ToolFormat::Hermes, ToolFormat::QwenXml, ToolFormat::Llama3, ToolFormat::Mistral,
            ToolFormat::Granite, ToolFormat::DeepSeek];
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (text.len() + 1)).filter(|c| text.is_char_boundary(*c)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();

        let format = with_tools(formats[tools]);
        let whole = parse_pieces(format, "", std::iter::once(text.as_str()));
        prop_assert_eq!(without_space(&whole.raw), without_space(&text));
        prop_assert_eq!(&parse_pieces(format, "", pieces.iter().copied()), &whole);

        let format = thinking(formats[tools]);
        let whole = parse_pieces(format, "", std::iter::once(text.as_str()));
        let untagged = |text: &str| without_space(text).replace("<think>", "").replace("</think>", "");
        prop_assert_eq!(untagged(&whole.raw), untagged(&text));
        prop_assert_eq!(parse_pieces(format, "", pieces.iter().copied()), whole);
    }
}
