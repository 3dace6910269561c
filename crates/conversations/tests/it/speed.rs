//! Long conversations are as quick as short ones. The limits are wide: builds without optimisation run here, beside others.

use std::time::{Duration, Instant};

use perch_protocol::conversations::*;
use perch_protocol::openai::{Content, Role};

use crate::support::Home;

/// Messages of the long conversation.
const MESSAGES: usize = 10_000;
const LIMIT: Duration = Duration::from_millis(50);

/// A conversation of ten thousand messages of sixty words.
fn long(home: &Home) -> Conversation {
    let mut messages: Vec<ConversationMessage> = Vec::with_capacity(MESSAGES);
    for n in 0..MESSAGES {
        let words: Vec<String> = (0..60).map(|word| format!("word{}", (n * 7 + word * 13) % 5000)).collect();
        let value = serde_json::json!({
            "id": perch_conversations::new_id(), "created_at": 1, "content": "",
            "role": if n % 2 == 0 { Role::User } else { Role::Assistant },
        });
        let mut message: ConversationMessage = serde_json::from_value(value).unwrap();
        message.parent = messages.last().map(|last| last.id.clone());
        message.content = Content::Text(format!("message {n} {}", words.join(" ")));
        messages.push(message);
    }
    let conversation = Conversation {
        id: perch_conversations::new_id(),
        title: "Long".into(),
        message_count: MESSAGES as u64,
        head: messages.last().map(|last| last.id.clone()),
        ..Conversation::default()
    };
    let detail = ConversationDetail { conversation, messages, has_more: false };
    let import = ConversationExport {
        format: Some("perch-conversations".into()),
        version: Some(1),
        conversations: Some(vec![detail]),
        markdown: None,
    };
    home.store.import(import, false).unwrap().wait().unwrap().remove(0)
}

/// The best of five.
fn best<T>(what: &str, mut work: impl FnMut() -> T) -> Duration {
    let took = (0..5).map(|_| {
        let begun = Instant::now();
        std::hint::black_box(work());
        begun.elapsed()
    });
    let best = took.min().unwrap();
    println!("{what}: {:.2} ms", best.as_secs_f64() * 1e3);
    best
}

#[test]
fn ten_thousand_messages_are_listed_and_searched_in_fifty_milliseconds() {
    let home = Home::new();
    for _ in 0..20 {
        home.talk(1);
    }
    let begun = Instant::now();
    let conversation = long(&home);
    println!("import: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let page = MessageQuery { limit: Some(100), before: None };
    let head = conversation.head.clone().unwrap();
    let took = [
        best("list conversations", || home.list()),
        best("last 100 messages", || home.store.detail(&conversation.id, &page).unwrap()),
        best("search, a word of one message", || home.find("\"message 4321\"")),
        best("search, a word of 120 messages", || home.find("word123")),
        best("search, a word of all messages", || home.find("message")),
    ];
    assert_eq!(home.find("message")[0].found.as_ref().unwrap().messages, MESSAGES as u64);
    best("all messages", || home.store.detail(&conversation.id, &MessageQuery::default()).unwrap());
    best("the branch, as a model is shown it", || home.store.branch(&conversation.id, &head).unwrap());
    best("say something (synced to the disk)", || home.say(Some(&conversation.id), "hello"));
    let home = {
        let begun = Instant::now();
        let again = home.again();
        println!("open and check: {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
        again
    };
    assert_eq!(home.store.conversation(&conversation.id).unwrap().message_count, MESSAGES as u64 + 10);
    assert!(took.iter().all(|took| *took < LIMIT), "{took:?}");
}
