//! Making, saying, changing, forking, deleting, and opening again.

use std::sync::Arc;

use perch_conversations::{Parent, Store, StoreError};
use perch_protocol::conversations::*;
use perch_protocol::openai::{Content, Role};

use crate::support::{Home, text};

#[test]
fn what_was_said_is_there_after_opening_again() {
    let home = Home::new();
    let turn = home.say(None, "# How do I bake *bread*?\nI have flour.");
    assert_eq!(turn.conversation.title, "How do I bake bread?");
    assert!(turn.conversation.auto_title);
    assert_eq!(turn.answer.state, MessageState::Running);
    assert_eq!(turn.answer.parent, turn.user_message.as_ref().map(|message| message.id.clone()));
    let answer = home.answer(&turn, "With water.");
    let id = turn.conversation.id;
    let home = home.again();
    let messages = home.messages(&id);
    assert_eq!(messages, [turn.user_message.unwrap(), answer.clone()]);
    let conversation = home.store.conversation(&id).unwrap();
    assert_eq!((conversation.message_count, conversation.head), (2, Some(answer.id)));
    assert_eq!(home.store.health().status, "ok");
}

#[test]
fn an_answer_that_was_being_written_is_marked_and_keeps_what_was_saved() {
    let home = Home::new();
    let turn = home.say(None, "hello");
    let mut so_far = turn.answer.clone();
    so_far.content = Content::Text("it begins with sourdough".into());
    home.store.rewrite(turn.conversation.id.clone(), so_far).wait().unwrap();
    assert!(home.find("sourdough").is_empty(), "an answer is found when it is whole");
    let home = home.again();
    let last = home.messages(&turn.conversation.id).pop().unwrap();
    assert_eq!((last.state, text(&last).as_str()), (MessageState::Interrupted, "it begins with sourdough"));
    assert_eq!(home.find("sourdough").len(), 1);
}

#[test]
fn edits_and_further_answers_are_branches_beside_the_old_ones() {
    let home = Home::new();
    let talk = home.talk(2);
    let messages = home.messages(&talk.id);
    let [q0, a0, q1, a1] = messages.as_slice() else { panic!("{messages:?}") };
    // One more answer to the last question.
    let again = home.say_at(Some(&talk.id), Parent::Head, None).unwrap();
    assert_eq!((again.answer.parent.as_ref(), again.user_message), (Some(&q1.id), None));
    let regenerated = home.say_at(Some(&talk.id), Parent::Message(q0.id.clone()), None).unwrap();
    assert_eq!(regenerated.answer.parent.as_ref(), Some(&q0.id));
    // Another second question, and another first one.
    let edited = home.say_at(Some(&talk.id), Parent::Message(a0.id.clone()), Some("other")).unwrap();
    assert_eq!(home.branch(&talk.id)[..3], ["question 0 about bread", "answer 0 about water", "other"]);
    home.say_at(Some(&talk.id), Parent::Root, Some("from the start")).unwrap();
    assert_eq!(home.branch(&talk.id)[0], "from the start");
    // Each branch can be shown again.
    let patch = ConversationPatch { head: Some(a1.id.clone()), ..ConversationPatch::default() };
    home.store.patch(talk.id.clone(), patch).wait().unwrap();
    assert_eq!(home.branch(&talk.id).len(), 4);
    assert_eq!(home.messages(&talk.id).len(), 4 + 1 + 1 + 2 + 2);
    let unknown = home.say_at(Some(&talk.id), Parent::Message("0".repeat(32)), Some("x"));
    assert!(matches!(unknown, Err(StoreError::NotFound { kind: "message", .. })));
    let other = home.talk(1);
    let foreign = home.say_at(Some(&other.id), Parent::Message(edited.answer.id), Some("x"));
    assert!(matches!(foreign, Err(StoreError::NotFound { .. })), "a parent of another conversation");
    let empty = home.store.create(NewConversation::default()).wait().unwrap();
    let nothing = home.say_at(Some(&empty.id), Parent::Head, None);
    assert!(matches!(nothing, Err(StoreError::Invalid { .. })));
}

#[test]
fn a_fork_is_a_copy_up_to_a_message() {
    let home = Home::new();
    let talk = home.talk(3);
    let at = home.messages(&talk.id)[3].id.clone();
    let fork = home.store.fork(talk.id.clone(), at, Some("branch".into())).wait().unwrap();
    assert_eq!((fork.title.as_str(), fork.message_count), ("branch", 4));
    assert_eq!(home.branch(&fork.id), home.branch(&talk.id)[..4]);
    home.say(Some(&fork.id), "goes on alone");
    assert_eq!(home.branch(&talk.id).len(), 6);
    home.store.delete(talk.id.clone()).wait().unwrap();
    assert_eq!(home.branch(&fork.id).len(), 6);
}

#[test]
fn changes_stay_and_an_empty_value_takes_one_back() {
    let home = Home::new();
    let talk = home.talk(1);
    let patch = ConversationPatch {
        title: Some("Bread".into()),
        model: Some("big".into()),
        system_prompt: Some("be brief".into()),
        sampling: Some(SamplingSettings { temperature: Some(0.7), ..SamplingSettings::default() }),
        pinned: Some(true),
        head: None,
    };
    let changed = home.store.patch(talk.id.clone(), patch).wait().unwrap();
    assert!(!changed.auto_title && changed.pinned && changed.updated_at >= talk.updated_at);
    let home = home.again();
    assert_eq!(home.store.conversation(&talk.id).unwrap(), changed);
    home.say(Some(&talk.id), "more");
    assert_eq!(home.store.conversation(&talk.id).unwrap().title, "Bread", "a title that was given stays");
    let empty = ConversationPatch {
        title: Some(String::new()),
        model: Some(String::new()),
        system_prompt: Some(String::new()),
        ..ConversationPatch::default()
    };
    let back = home.store.patch(talk.id.clone(), empty).wait().unwrap();
    assert_eq!((back.title.as_str(), back.auto_title), ("question 0 about bread", true));
    assert_eq!((back.model, back.system_prompt, back.sampling.temperature), (None, None, Some(0.7)));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let home = Home::new();
    let refused = |new: NewConversation| match home.store.create(new).wait() {
        Err(StoreError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let title = |title: String| NewConversation { title: Some(title), ..NewConversation::default() };
    for bad in ["x".repeat(201), "a\0b".into(), "two\nlines".into(), "   ".into(), "x".repeat(10 << 20)] {
        assert_eq!(refused(title(bad)), "title");
    }
    let model = NewConversation { model: Some("a\nb".into()), ..NewConversation::default() };
    assert_eq!(refused(model), "model");
    let prompt = NewConversation { system_prompt: Some("x".repeat(300 << 10)), ..NewConversation::default() };
    assert_eq!(refused(prompt), "system_prompt");
    assert!(home.list().is_empty(), "nothing of what was refused is there");
    for id in ["", "x", "' OR 1=1 --", "\0", &"0".repeat(32), &"x".repeat(1 << 20)] {
        assert!(matches!(home.store.conversation(id), Err(StoreError::NotFound { .. })), "{id:?}");
    }
    // What is said may hold anything.
    let turn = home.say(None, "NUL \0 and \u{202e} and \u{fdd0}");
    assert_eq!(text(&home.messages(&turn.conversation.id)[0]), "NUL \0 and \u{202e} and \u{fdd0}");
}

#[test]
fn pages_follow_one_another_without_gaps() {
    let home = Home::new();
    let mut ids: Vec<String> = (0..25).map(|_| home.talk(1).id).collect();
    ids.reverse();
    let mut query = ConversationQuery { limit: Some(10), ..ConversationQuery::default() };
    let mut seen = Vec::new();
    loop {
        let (page, next) = home.store.list(&query).unwrap();
        seen.extend(page.into_iter().map(|conversation| conversation.id));
        match next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    for (limit, cursor) in [(Some(0), None), (Some(201), None), (None, Some("x")), (None, Some("1-x"))] {
        let query =
            ConversationQuery { limit, cursor: cursor.map(str::to_owned), ..ConversationQuery::default() };
        assert!(matches!(home.store.list(&query), Err(StoreError::Invalid { .. })));
    }
    // The one that changed last comes first; messages come by pages too.
    home.say(Some(&ids[20]), "hello");
    assert_eq!(home.list()[0].id, ids[20]);
    let long = home.talk(10);
    let all = home.messages(&long.id);
    let page = |before: Option<&str>| {
        let query = MessageQuery { limit: Some(8), before: before.map(str::to_owned) };
        home.store.detail(&long.id, &query).unwrap()
    };
    let last = page(None);
    assert_eq!((last.messages.as_slice(), last.has_more), (&all[12..], true));
    let first = page(Some(&page(Some(&last.messages[0].id)).messages[0].id));
    assert_eq!((first.messages.as_slice(), first.has_more), (&all[..4], false));
}

#[test]
fn writers_at_once_keep_their_order_and_lose_nothing() {
    let home = Home::new();
    let id = home.talk(1).id;
    let Home { dir, store } = home;
    let store = Arc::new(store);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (store, id) = (store.clone(), id.clone());
            scope.spawn(move || {
                for n in 0..25 {
                    let said = perch_conversations::Said {
                        conversation: Ok(id.clone()),
                        parent: Parent::Head,
                        content: Some(Content::Text(format!("{writer} {n}"))),
                        model: None,
                    };
                    store.say(said).wait().unwrap();
                }
            });
        }
    });
    let home = Home { store: Arc::into_inner(store).unwrap(), dir };
    let branch = home.branch(&id);
    assert_eq!(branch.len(), 2 + 8 * 25 * 2, "one branch with everything on it");
    for writer in 0..8 {
        let own = branch.iter().filter_map(|text| text.strip_prefix(&format!("{writer} ")));
        assert_eq!(own.map(|n| n.parse().unwrap()).collect::<Vec<usize>>(), (0..25).collect::<Vec<_>>());
    }
}

#[test]
fn a_second_process_is_kept_out_and_told_why() {
    let home = Home::new();
    let error = Store::open(home.dir.path()).unwrap_err();
    assert!(
        matches!(error, StoreError::Unusable { .. }) && error.to_string().contains("another Perch"),
        "{error}"
    );
    home.store.close();
    assert!(matches!(home.store.create(NewConversation::default()).wait(), Err(StoreError::Closed)));
}

#[cfg(unix)]
#[test]
fn other_users_of_the_machine_cannot_read_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::new();
    home.talk(1);
    for end in ["", "-wal"] {
        let path = home.file().with_file_name(format!("conversations.db{end}"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn a_deleted_conversation_takes_its_messages_along() {
    let home = Home::new();
    let (gone, stays) = (home.talk(3), home.talk(1));
    let turn = home.say(Some(&gone.id), "a last word");
    home.store.delete(gone.id.clone()).wait().unwrap();
    assert!(matches!(home.store.conversation(&gone.id), Err(StoreError::NotFound { .. })));
    assert!(matches!(home.store.delete(gone.id.clone()).wait(), Err(StoreError::NotFound { .. })));
    // Its answer comes too late, and that is no error.
    let late = ConversationMessage { state: MessageState::Complete, ..turn.answer };
    assert!(!home.store.rewrite(gone.id, late).wait().unwrap());
    assert_eq!(home.list().iter().map(|c| &c.id).collect::<Vec<_>>(), [&stays.id]);
    assert_eq!(home.find("bread").len(), 1);
    assert_eq!(home.messages(&stays.id)[0].role, Role::User);
}
