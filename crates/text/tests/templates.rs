//! Chat templates against Hugging Face transformers' renderings, and against hostile templates.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use perch_text::{
    ChatTemplate, TemplateError, TemplateInput, TemplateSet, TemplateTokens, fallback_template,
};
use serde_json::{Map, Value, json};

/// 2024-07-26 12:00 UTC, the day of the goldens (in any time zone from -12 to +11).
fn noon() -> Option<SystemTime> {
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_721_995_200))
}

fn tokens() -> TemplateTokens {
    TemplateTokens { bos: "<BOS>".into(), eos: "<EOS>".into(), unk: "<UNK>".into(), pad: "<PAD>".into() }
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, tokens()).unwrap()
}

fn render(template: &ChatTemplate, conversation: &Value) -> Result<String, TemplateError> {
    template.render(&TemplateInput {
        messages: conversation["messages"].as_array().unwrap(),
        tools: conversation["tools"].as_array().map(Vec::as_slice),
        documents: None,
        add_generation_prompt: conversation["add_generation_prompt"].as_bool().unwrap(),
        kwargs: conversation["kwargs"].as_object().unwrap().clone(),
        now: noon(),
    })
}

fn say(source: &str) -> Result<String, TemplateError> {
    let messages = [json!({"role": "user", "content": "hi"})];
    ChatTemplate::new(source, tokens())?.render(&TemplateInput { messages: &messages, ..Default::default() })
}

/// What went otherwise than in transformers, in words.
fn differences(folder: &Path, goldens: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, results) in goldens["templates"].as_object().unwrap() {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let template = match ChatTemplate::new(&source, tokens()) {
            Ok(template) => template,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (conversation, result) in results.as_object().unwrap() {
            let expected = expected(&template, results, conversation, result);
            let got = render(&template, &goldens["conversations"][conversation]);
            let agrees = match (&got, expected["text"].as_str(), expected["raised"].as_str()) {
                (Ok(got), Some(text), _) => got == text,
                (Err(TemplateError::Raised(got)), _, Some(words)) => got == words,
                // Where transformers fails on a type, we may have put it right.
                (Ok(_) | Err(TemplateError::Failed(_)), None, None) => true,
                _ => false,
            };
            if !agrees {
                wrong.push(format!("{name}, {conversation}\n  got      {got:?}\n  expected {expected}"));
            }
        }
    }
    wrong
}

/// The golden for the form that this template reads.
fn expected<'a>(
    template: &ChatTemplate,
    results: &'a Value,
    conversation: &str,
    result: &'a Value,
) -> &'a Value {
    let features = template.features();
    let result = match conversation {
        "parts" if features.text_content => &results["parts_as_text"],
        "result_null" if !features.null_content => &results["result"],
        _ => result,
    };
    match result.get("object") {
        Some(object) if features.object_arguments => object,
        Some(_) => &result["string"],
        None => result,
    }
}

#[test]
fn published_templates_render_as_transformers_renders_them() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/templates");
    let wrong = differences(&folder, &common::golden("templates.json"));
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn templates_in_a_folder_of_ones_own_render_as_transformers_renders_them() {
    let Some(folder) = std::env::var_os("PERCH_TEMPLATE_GOLDENS").map(PathBuf::from) else {
        eprintln!("skipped: PERCH_TEMPLATE_GOLDENS names no folder");
        return;
    };
    let goldens = std::fs::read_to_string(folder.join("templates.json")).unwrap();
    let wrong = differences(&folder, &serde_json::from_str(&goldens).unwrap());
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn arguments_and_parts_take_the_form_that_the_template_reads() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/templates");
    let read = |name: &str| template(&std::fs::read_to_string(folder.join(name)).unwrap());
    let qwen = read("Qwen-Qwen2.5-7B-Instruct.jinja");
    assert!(qwen.features().object_arguments && qwen.features().tools && !qwen.features().enable_thinking);
    // As DeepSeek's own file has it: the arguments are written as they are.
    let deepseek = template(
        "{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}{{ '```json\\n' + c.function.arguments + '\\n```' }}\
         {% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
    );
    assert!(!deepseek.features().object_arguments && deepseek.features().tool_calls);
    assert!(read("Qwen-Qwen3-0.6B.jinja").features().enable_thinking);
    let call = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": [1, 2]}"}}]});
    let messages = [
        json!({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]}),
        call,
    ];
    let input = TemplateInput { messages: &messages, ..Default::default() };
    let text = qwen.render(&input).unwrap();
    assert!(text.contains("<|im_start|>user\nxy<|im_end|>"), "{text}");
    assert!(text.contains(r#"{"name": "f", "arguments": {"a": [1, 2]}}"#), "{text}");
    assert!(deepseek.render(&input).unwrap().contains("```json\n{\"a\": [1, 2]}\n```"));
}

#[test]
fn kwargs_reach_the_template_but_cannot_replace_the_conversation() {
    let show = template("{{ messages[0].content }} {{ mood }} {{ add_generation_prompt }}");
    let messages = [json!({"role": "user", "content": "hi"})];
    let kwargs: Map<String, Value> =
        json!({"mood": "good", "messages": [], "add_generation_prompt": true}).as_object().unwrap().clone();
    let input = TemplateInput { messages: &messages, kwargs, ..Default::default() };
    assert_eq!(show.render(&input).unwrap(), "hi good False");
}

#[test]
fn the_named_template_that_fits_is_chosen() {
    let config = json!({"chat_template": [
        {"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}, {"name": "rag", "template": "R"}]});
    let set = TemplateSet::from_config(&config);
    assert_eq!((set.choose(false, false), set.choose(true, false)), (Some("D"), Some("T")));
    assert_eq!((set.choose(false, true), set.choose(true, true)), (Some("R"), Some("T")));
    let one = TemplateSet::from_config(&json!({"chat_template": "only"}));
    assert_eq!((one.choose(true, true), one.is_empty()), (Some("only"), false));
    assert!(TemplateSet::from_config(&json!({})).choose(true, false).is_none());
}

#[test]
fn without_a_template_chatml_is_used_only_where_the_vocabulary_has_it() {
    let source = fallback_template(&common::chatml_tokenizer()).unwrap();
    let messages = [json!({"role": "user", "content": "hi"})];
    let input = TemplateInput { messages: &messages, add_generation_prompt: true, ..Default::default() };
    assert_eq!(
        template(source).render(&input).unwrap(),
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    );
    let llama = common::golden("tokenizers.json");
    let llama = perch_text::Tokenizer::from_gguf(common::gguf(&llama["llama"]["gguf"])).unwrap();
    assert_eq!(fallback_template(&llama), None);
}

#[test]
fn errors_say_what_the_template_said_or_where_it_failed() {
    assert_eq!(say("{{ raise_exception('no ' ~ 'way') }}"), Err(TemplateError::Raised("no way".into())));
    let macro_raise =
        "{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{% for x in [1] %}{{ m() }}{% endfor %}";
    assert_eq!(say(macro_raise), Err(TemplateError::Raised("deep".into())));
    let syntax = ChatTemplate::new("a\n{% if %}", tokens()).unwrap_err();
    assert!(matches!(&syntax, TemplateError::Syntax(why) if why.contains("line 2")), "{syntax}");
    assert_eq!(syntax.code(), "template_error");
    assert!(matches!(say("{{ messages.nothing.more }}"), Err(TemplateError::Failed(_))));
    assert!(
        matches!(say("{% include 'other' %}"), Err(TemplateError::Failed(_))),
        "there are no other templates"
    );
}

#[test]
fn hostile_templates_end_at_a_limit_and_not_in_the_machine() {
    let doubling = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
    let summing = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
    let listing = "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}";
    let capturing = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}";
    let replacing = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x | replace('a', ns.x) %}{% endfor %}";
    let method = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}";
    let joining = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] | join(ns.x) %}{% endfor %}";
    let formatting = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = '%s%s' | format(ns.x, ns.x) %}{% endfor %}";
    let braces = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = '{}{}'.format(ns.x, ns.x) %}{% endfor %}";
    let raw = format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "a".repeat(10_000));
    let raw_capture = format!("{{% set x %}}{raw}{{% endset %}}");
    let loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
    let wide = "{% for i in range(999) %}{{ 'x' * 99999 }}{% endfor %}";
    let padding = "{{ '%99999999d' | format(1) }}";
    let dumping = "{% set ns = namespace(x=[1, 1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}";
    let printing = "{% set ns = namespace(x=[1, 1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}";
    let stringing = "{% set ns = namespace(x=[1, 1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{% set y = ns.x | string %}";
    let recursing = "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}";
    for source in [
        doubling,
        summing,
        listing,
        capturing,
        replacing,
        method,
        joining,
        formatting,
        braces,
        &raw,
        &raw_capture,
        loops,
        wide,
        padding,
        dumping,
        printing,
        stringing,
        recursing,
    ] {
        let start = Instant::now();
        let result = say(source);
        let took = start.elapsed();
        let short: String = source.chars().take(120).collect();
        let error = result.expect_err(&short);
        assert_eq!(error.code(), "template_limit", "{short}: {error}");
        assert!(took < Duration::from_secs(10), "{short}: {took:?}");
        eprintln!("{took:?} {error} {short}");
    }
    let long = "a".repeat(600_000);
    assert!(matches!(ChatTemplate::new(&long, tokens()), Err(TemplateError::Syntax(_))));
    let nested = format!("{}1{}", "{{ (", ")".repeat(50_000));
    assert!(ChatTemplate::new(&nested, tokens()).is_err());
    let parentheses = format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000));
    assert!(ChatTemplate::new(&parentheses, tokens()).is_err());
}

#[test]
fn a_damaged_template_is_an_error_or_a_template_but_no_panic() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/templates");
    for name in ["openai-gpt-oss-120b", "written-everything", "Qwen3-Coder"] {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let places: Vec<usize> = source.char_indices().map(|(at, _)| at).step_by(83).collect();
        for at in places {
            let _ = ChatTemplate::new(&source[..at], tokens());
            for other in ["~", "(", "}}", "é", " + ", "99999999999 * "] {
                let _ = ChatTemplate::new(&format!("{}{other}{}", &source[..at], &source[at..]), tokens());
            }
        }
    }
}

#[test]
fn a_long_conversation_with_tools_stays_well_within_the_limits() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/templates");
    let qwen = template(&std::fs::read_to_string(folder.join("Qwen-Qwen3-0.6B.jinja")).unwrap());
    let turn = |i: usize| {
        [
            json!({"role": "user", "content": format!("question {i} {}", "word ".repeat(200))}),
            json!({"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]}),
            json!({"role": "tool", "content": "result ".repeat(300)}),
            json!({"role": "assistant", "content": "answer"}),
        ]
    };
    let messages: Vec<Value> = (0..500).flat_map(turn).collect();
    let input = TemplateInput { messages: &messages, add_generation_prompt: true, ..Default::default() };
    let start = Instant::now();
    let text = qwen.render(&input).unwrap();
    assert!(text.len() > 1_500_000 && text.ends_with("<|im_start|>assistant\n"));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}
