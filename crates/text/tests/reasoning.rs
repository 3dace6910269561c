//! Thinking in raw answers: tags, tags that the prompt wrote, channels.

mod common;

use common::answer::{parse, thinking, weather};
use perch_text::{OutputFormat, ReasoningFormat, ToolFormat};

#[test]
fn thinking_is_split_from_the_answer() {
    let answer = parse(thinking(ToolFormat::Hermes), "", "<think>\nFirst, add.\n</think>\n\nIt is 2.");
    assert_eq!((answer.reasoning.as_str(), answer.content.as_str()), ("First, add.", "It is 2."));
}

#[test]
fn thinking_that_the_prompt_began_is_thinking() {
    let answer =
        parse(thinking(ToolFormat::Hermes), "<|im_start|>assistant\n<think>\n", "Hm.\n</think>\n\nYes.");
    assert_eq!((answer.reasoning.as_str(), answer.content.as_str()), ("Hm.", "Yes."));
    let cut_short = parse(thinking(ToolFormat::Hermes), "<think>\n", "Hm, this takes");
    assert_eq!((cut_short.reasoning.as_str(), cut_short.content.as_str()), ("Hm, this takes", ""));
}

#[test]
fn an_answer_after_thinking_that_the_prompt_closed_is_all_content() {
    let prompt = "<|im_start|>assistant\n<think>\n\n</think>\n\n";
    let answer = parse(thinking(ToolFormat::Hermes), prompt, "The tag </think> ends it, <think> begins it.");
    assert_eq!(
        (answer.reasoning.as_str(), answer.content.as_str()),
        ("", "The tag </think> ends it, <think> begins it.")
    );
}

#[test]
fn a_closing_tag_alone_makes_what_was_before_it_thinking() {
    let answer = parse(thinking(ToolFormat::Hermes), "", "I wonder.</think>So be it.");
    assert_eq!((answer.reasoning.as_str(), answer.content.as_str()), ("I wonder.", "So be it."));
}

#[test]
fn an_answer_that_talks_about_the_tags_stays_whole() {
    let text = "Models write <think> first.";
    assert_eq!(parse(thinking(ToolFormat::Hermes), "", text).content, text);
    assert_eq!(parse(thinking(ToolFormat::Hermes), "", "  < thin air").content, "  < thin air");
}

#[test]
fn harmony_channels_become_reasoning_content_and_calls() {
    let format = OutputFormat { reasoning: ReasoningFormat::Harmony, tools: ToolFormat::Harmony };
    let prompt = "<|start|>user<|message|>hi<|end|><|start|>assistant";
    let text = "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant<|channel|>commentary<|message|>I will look.\
                <|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Bern\"}<|call|>";
    let answer = parse(format, prompt, text);
    assert_eq!((answer.reasoning.as_str(), answer.content.as_str()), ("Let me see.", "I will look."));
    assert_eq!(answer.calls, [weather("Bern")]);
    // The engine stops at <|call|> and does not pass it on; the recipient may stand before the channel.
    let other = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{\"city\": \"Bern\"}";
    assert_eq!(parse(format, prompt, other).calls, [weather("Bern")]);
    let last = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Done.<|return|>";
    let answer = parse(format, prompt, last);
    assert_eq!((answer.reasoning.as_str(), answer.content.as_str()), ("Hm.", "Done."));
    // A prompt can have begun the message.
    assert_eq!(parse(format, "<|start|>assistant<|channel|>final<|message|>", "Hi").content, "Hi");
}

#[test]
fn a_harmony_answer_that_forgets_the_channels_is_content() {
    let format = OutputFormat { reasoning: ReasoningFormat::Harmony, tools: ToolFormat::Harmony };
    let prompt = "<|start|>assistant";
    assert_eq!(parse(format, prompt, "Hello <there>.").content, "Hello <there>.");
    assert_eq!(parse(format, "", "assistants say hi").content, "assistants say hi");
    assert_eq!(parse(format, prompt, "<|channel|>analysis<|message|>Hm.<|end|>So: yes.").content, "So: yes.");
}

#[test]
fn the_tags_that_granite_puts_around_its_answer_are_dropped_after_thinking_only() {
    let format = thinking(ToolFormat::Granite);
    let answer = parse(format, "", "<think>Hm.</think>\n<response>\nYes, <b>.</response>");
    assert_eq!((answer.reasoning.as_str(), answer.content.as_str()), ("Hm.", "Yes, <b>."));
    assert_eq!(parse(format, "", "<response>x</response>").content, "<response>x</response>");
}
