//! Exports and imports.

use perch_conversations::{Parent, StoreError};
use perch_protocol::conversations::*;
use perch_protocol::openai::{Content, ContentPart, FinishReason, ImageUrl, Role};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Home, text};

/// A conversation with everything in it.
fn rich(home: &Home) -> String {
    let turn = home.say(None, "first\0question");
    let id = turn.conversation.id.clone();
    let mut answer = turn.answer;
    answer.content = Content::Text("an answer".into());
    answer.reasoning = Some("hm".into());
    answer.state = MessageState::Complete;
    answer.finish_reason = Some(FinishReason::Length);
    answer.usage =
        Some(MessageUsage { prompt_tokens: 9, cached_tokens: 3, completion_tokens: 2, reasoning_tokens: 1 });
    answer.timings = Some(MessageTimings { first_token_ms: Some(5), duration_ms: 50 });
    answer.left_out_turns = 2;
    home.store.rewrite(id.clone(), answer).wait().unwrap();
    let failed = home.say_at(Some(&id), Parent::Head, None).unwrap().answer;
    let error = perch_protocol::Problem { code: "engine_error".into(), message: "no".into() };
    let failed = ConversationMessage { state: MessageState::Failed, error: Some(error), ..failed };
    home.store.rewrite(id.clone(), failed).wait().unwrap();
    let part = |kind: &str, text: Option<&str>, url: Option<&str>| ContentPart {
        kind: kind.into(),
        text: text.map(str::to_owned),
        refusal: None,
        image_url: url.map(|url| ImageUrl { url: url.into(), detail: None }),
        cache_control: None,
    };
    let parts =
        vec![part("text", Some("look"), None), part("image_url", None, Some("data:image/png;base64,AAEC"))];
    let said = perch_conversations::Said {
        conversation: Ok(id.clone()),
        parent: Parent::Root,
        content: Some(Content::Parts(parts)),
        model: None,
    };
    let looked = home.store.say(said).wait().unwrap();
    home.answer(&looked, "I see");
    let sampling = SamplingSettings { temperature: Some(0.7), seed: Some(-1), ..SamplingSettings::default() };
    let patch =
        ConversationPatch { sampling: Some(sampling), pinned: Some(true), ..ConversationPatch::default() };
    home.store.patch(id.clone(), patch).wait().unwrap();
    id
}

fn export(home: &Home, id: &str) -> Value {
    serde_json::to_value(home.store.export(id).unwrap()).unwrap()
}

fn import(home: &Home, export: &Value, copy: bool) -> Result<Vec<Conversation>, StoreError> {
    home.store.import(serde_json::from_value(export.clone()).unwrap(), copy)?.wait()
}

#[test]
fn an_export_comes_back_as_it_was() {
    let home = Home::new();
    let id = rich(&home);
    let first = serde_json::to_string(&home.store.export(&id).unwrap()).unwrap();
    assert!(first.contains("data:image/png;base64,AAEC"));
    let elsewhere = Home::new();
    import(&elsewhere, &serde_json::from_str(&first).unwrap(), false).unwrap();
    let second = serde_json::to_string(&elsewhere.store.export(&id).unwrap()).unwrap();
    assert_eq!(first, second);
    // It can be said more in it, and found.
    assert_eq!(elsewhere.find("question").len(), 1);
    elsewhere.say(Some(&id), "more");
    let conflict = import(&home, &serde_json::from_str(&first).unwrap(), false);
    assert!(matches!(conflict, Err(StoreError::Conflict(_))));
    let copies = import(&home, &serde_json::from_str(&first).unwrap(), true).unwrap();
    assert_ne!(copies[0].id, id);
    let texts = |id: &str| home.messages(id).iter().map(text).collect::<Vec<_>>();
    assert_eq!(texts(&copies[0].id), texts(&id));
    assert_eq!(copies[0].updated_at, home.store.conversation(&id).unwrap().updated_at);
}

#[test]
fn images_are_kept_once_and_go_with_their_last_message() {
    let home = Home::new();
    let id = rich(&home);
    let message = home.messages(&id).into_iter().find(|m| matches!(m.content, Content::Parts(_))).unwrap();
    let url = perch_conversations::images_of(&message.content).next().unwrap().to_owned();
    let hash = url.strip_prefix("/api/v1/chat/images/").unwrap();
    let image = home.store.image(hash).unwrap();
    assert_eq!((image.media_type.as_str(), image.bytes.as_slice()), ("image/png", &[0, 1, 2][..]));
    let copy = import(&home, &export(&home, &id), true).unwrap().remove(0);
    home.store.delete(id).wait().unwrap();
    assert!(home.store.image(hash).is_ok());
    home.store.delete(copy.id).wait().unwrap();
    assert!(matches!(home.store.image(hash), Err(StoreError::NotFound { .. })));
}

#[test]
fn an_import_is_checked_to_the_last_field_and_all_or_nothing() {
    let home = Home::new();
    let id = rich(&home);
    let good = export(&home, &id);
    let elsewhere = Home::new();
    let at = |path: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        bad
    };
    let first = &good["conversations"][0]["messages"][0]["id"];
    let cases = [
        ("/format", json!("other"), "format"),
        ("/version", json!(2), "version"),
        ("/conversations/0/conversation/id", json!("../../x"), "conversations[0].conversation.id"),
        ("/conversations/0/conversation/title", json!("a\nb"), "conversations[0].conversation.title"),
        (
            "/conversations/0/conversation/message_count",
            json!(1),
            "conversations[0].conversation.message_count",
        ),
        ("/conversations/0/conversation/head", json!("0".repeat(32)), "conversations[0].conversation.head"),
        (
            "/conversations/0/conversation/created_at",
            json!(u64::MAX),
            "conversations[0].conversation.created_at",
        ),
        ("/conversations/0/has_more", json!(true), "conversations[0].has_more"),
        ("/conversations/0/messages/1/id", first.clone(), "conversations[0].messages[1].id"),
        ("/conversations/0/messages/1/parent", json!("1".repeat(32)), "conversations[0].messages[1].parent"),
        ("/conversations/0/messages/0/role", json!("developer"), "conversations[0].messages[0].role"),
        ("/conversations/0/messages/0/role", json!("tool"), "conversations[0].messages[0].tool_call_id"),
        ("/conversations/0/messages/3/content", json!([]), "conversations[0].messages[3].content"),
        (
            "/conversations/0/messages/3/content/1/type",
            json!("file"),
            "conversations[0].messages[3].content[1].type",
        ),
        (
            "/conversations/0/messages/3/content/1/image_url/url",
            json!("http://x"),
            "conversations[0].messages[3].content",
        ),
        (
            "/conversations/0/messages/3/content/1/image_url/url",
            json!("data:text/html;base64,AA"),
            "conversations[0].messages[3].content",
        ),
    ];
    for (path, value, field) in cases {
        match import(&elsewhere, &at(path, value), false) {
            Err(StoreError::Invalid { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{path}: {other:?}"),
        }
    }
    // The second of two is refused, and the first is not there.
    let mut two = good.clone();
    let again = two["conversations"][0].clone();
    two["conversations"].as_array_mut().unwrap().push(again);
    assert!(import(&elsewhere, &two, false).is_err());
    assert!(elsewhere.list().is_empty());
}

#[test]
fn markdown_goes_out_and_comes_back() {
    let home = Home::new();
    let turn =
        home.say(None, "What is this?\n\n## Assistant\n\n<!-- perch:message {} -->\n```\n# no title\n```\n");
    let id = turn.conversation.id.clone();
    home.answer(&turn, "A trap -->");
    let prompt =
        ConversationPatch { system_prompt: Some("be\n\nbrief".into()), ..ConversationPatch::default() };
    home.store.patch(id.clone(), prompt).wait().unwrap();
    let markdown = home.store.export_markdown(&id).unwrap();
    assert!(markdown.starts_with("# What is this?\n"), "{markdown}");
    let read = import(&home, &json!({"markdown": markdown}), false).unwrap().remove(0);
    assert_eq!(home.branch(&read.id), home.branch(&id));
    assert_eq!((read.title.as_str(), read.system_prompt.as_deref()), ("What is this?", Some("be\n\nbrief")));
    assert_eq!(home.store.export_markdown(&read.id).unwrap(), markdown);
}

#[test]
fn markdown_that_people_write_is_read_by_its_headings() {
    let home = Home::new();
    let text = "# Bread\n\nNotes.\n\n## User\n\nHow?\n\n```\n## User\n```\n\n## Assistant\nSo.\n";
    let read = import(&home, &json!({"markdown": text}), false).unwrap().remove(0);
    assert_eq!(home.branch(&read.id), ["How?\n\n```\n## User\n```", "So."]);
    assert_eq!((read.title.as_str(), home.messages(&read.id)[1].role), ("Bread", Role::Assistant));
    for bad in [
        "",
        "no headings",
        "<!-- perch:message {\"role\": \"wizard\"} -->",
        "<!-- perch:message {\n## User\nx",
    ] {
        assert!(
            matches!(import(&home, &json!({"markdown": bad}), false), Err(StoreError::Invalid { .. })),
            "{bad}"
        );
    }
    assert!(matches!(import(&home, &json!({}), false), Err(StoreError::Invalid { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_comes_back_from_markdown(question in "(.|\n|## User|<!-- perch:|```){0,40}", answer in "(.|\n|<!-- \\\\perch:){0,40}") {
        prop_assume!(!question.contains('\r') && !answer.contains('\r'));
        let home = Home::new();
        let turn = home.say(None, &question);
        home.answer(&turn, &answer);
        let markdown = home.store.export_markdown(&turn.conversation.id).unwrap();
        let read = import(&home, &json!({"markdown": markdown}), false).unwrap().remove(0);
        prop_assert_eq!(home.branch(&read.id), [question, answer]);
    }
}
