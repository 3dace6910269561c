//! Conversations that are longer than the model's context: cut by whole turns, at the token.

use serde_json::{Value, json};

use super::{begin, say, say_in};
use crate::fixture::CONTEXT;
use crate::script::Script;
use crate::support::Server;

/// Tokens of a message: `<|im_start|>`, the role, a line's end, a token for each byte, `<|im_end|>`, a line's end.
fn tokens(role: &str, content: &str) -> usize {
    1 + role.len() + 1 + content.len() + 2
}

/// Tokens of a prompt with these questions, each but the last answered with `answer`.
fn prompt(system: Option<&str>, questions: &[String], answer: &str) -> usize {
    let asked: usize = questions.iter().map(|question| tokens("user", question)).sum();
    let answered = (questions.len() - 1) * tokens("assistant", answer);
    system.map_or(0, |text| tokens("system", text)) + asked + answered + 1 + "assistant".len() + 1
}

fn used(reply: &Value) -> usize {
    reply["message"]["usage"]["prompt_tokens"].as_u64().unwrap() as usize
}

#[tokio::test]
async fn the_oldest_turns_are_left_out_whole_and_the_system_prompt_stays() {
    let answer = "y".repeat(90);
    let system = "Be kind.";
    let server = Server::with(|config| config.chat.system_prompt = Some("not this".into())).await;
    server.script("tiny", Script::say(&answer));
    let question = |n: usize| format!("question {n:03} {}", "x".repeat(80));
    let first = say(&server, json!({"message": question(0), "system_prompt": system})).await.ok();
    let id = first["conversation"]["id"].as_str().unwrap().to_owned();
    let mut questions = vec![question(0)];
    assert_eq!(used(&first), prompt(Some(system), &questions, &answer));
    let budget = CONTEXT - CONTEXT / 4;
    let (mut cut, mut cuts) = (0, 0);
    for n in 1..40 {
        questions.push(question(n));
        if prompt(Some(system), &questions[cut..], &answer) > budget {
            // Cut by more than needed, so that the next turns find their prefix again.
            while prompt(Some(system), &questions[cut..], &answer) > budget - budget / 4 {
                cut += 1;
            }
            cuts += 1;
        }
        let reply = say_in(&server, &id, &question(n)).await;
        assert_eq!(reply["left_out_turns"], cut, "turn {n}");
        assert_eq!(reply["message"].get("left_out_turns").and_then(Value::as_u64).unwrap_or(0), cut as u64);
        assert_eq!(used(&reply), prompt(Some(system), &questions[cut..], &answer), "turn {n}");
    }
    assert!(cuts >= 4, "{cuts}");
    // The cut is told in the stream too, before the answer.
    let body = json!({"conversation_id": id, "message": question(40), "stream": true});
    let chunks = say(&server, body).await.chunks();
    assert_eq!((&chunks[0]["type"], &chunks[1]["type"]), (&json!("start"), &json!("trimmed")));
    assert!(chunks[1]["left_out_turns"].as_u64() >= Some(cut as u64));
    // Nothing is lost: it is all there to be read.
    assert_eq!(super::show(&server, &id).await["conversation"]["message_count"], 82);
}

#[tokio::test]
async fn turns_that_follow_a_cut_find_their_prefix_in_the_cache() {
    let server = Server::saying(&"y".repeat(90)).await;
    let id = begin(&server, &"x".repeat(90)).await;
    let mut last = (0, 0);
    let mut found = 0;
    for _ in 0..20 {
        let reply = say_in(&server, &id, &"x".repeat(90)).await;
        let cached = reply["message"]["usage"]["cached_tokens"].as_u64().unwrap();
        let left_out = reply["left_out_turns"].as_u64().unwrap();
        if left_out == last.0 && last.1 > 0 {
            // Blocks of 16 tokens; the answer before is known too, but for its end.
            assert!(cached + 160 > last.1, "{cached} of {}", last.1);
            found += 1;
        }
        last = (left_out, used(&reply) as u64);
    }
    assert!(found > 12, "{found}");
}

#[tokio::test]
async fn a_setting_limits_the_turns_and_gives_a_system_prompt() {
    let server = Server::with(|config| {
        config.chat.max_turns = Some(4);
        config.chat.system_prompt = Some("Be brief.".into());
    })
    .await;
    server.script("tiny", Script::say("ok"));
    let id = begin(&server, "question 0").await;
    let mut left_out = vec![0];
    for n in 1..9 {
        let reply = say_in(&server, &id, &format!("question {n}")).await;
        let out = reply["left_out_turns"].as_u64().unwrap() as usize;
        let shown: Vec<String> = (out..=n).map(|n| format!("question {n}")).collect();
        assert!(shown.len() <= 4);
        assert_eq!(used(&reply), prompt(Some("Be brief."), &shown, "ok"));
        left_out.push(out);
    }
    assert_eq!(left_out, [0, 0, 0, 0, 2, 2, 4, 4, 6]);
}

#[tokio::test]
async fn a_message_that_is_too_long_by_itself_is_refused_with_both_numbers() {
    let server = Server::saying("ok").await;
    let id = begin(&server, "hello").await;
    let long = "x".repeat(CONTEXT + 10);
    let answer = say(&server, json!({"conversation_id": id, "message": long})).await;
    assert_eq!(answer.error().1, "context_length_exceeded");
    assert!(answer.message().contains(&CONTEXT.to_string()), "{}", answer.message());
    let detail = super::show(&server, &id).await;
    let last = &detail["messages"][3];
    assert_eq!(
        (&last["state"], &last["error"]["code"]),
        (&json!("failed"), &json!("context_length_exceeded"))
    );
    // A room for the answer that is known to be small leaves more for the prompt.
    let fits = "x".repeat(CONTEXT - 100);
    let body = json!({"message": fits, "sampling": {"max_tokens": 5}});
    assert_eq!(say(&server, body).await.ok()["message"]["content"], "ok");
}
