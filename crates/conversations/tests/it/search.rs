//! Finding things again.

use perch_conversations::StoreError;
use perch_protocol::conversations::*;

use crate::support::Home;

fn marked(found: &Found) -> String {
    found
        .snippet
        .iter()
        .map(|part| if part.matched { format!("[{}]", part.text) } else { part.text.clone() })
        .collect()
}

#[test]
fn words_are_found_in_messages_and_titles_with_their_surroundings() {
    let home = Home::new();
    let bread = home.say(None, "How do I bake sourdough bread at home?");
    home.answer(&bread, "Mix flour and water, and wait for a day.");
    let tea = home.say(None, "Which tea is best?");
    home.answer(&tea, "The one with the least water in it.");
    let both = home.find("water");
    assert_eq!(
        both.iter().map(|c| &c.id).collect::<Vec<_>>(),
        [&tea.conversation.id, &bread.conversation.id]
    );
    let found = both[1].found.as_ref().unwrap();
    assert_eq!(marked(found), "Mix flour and [water], and wait for a day.");
    assert_eq!(found.message_id.as_ref(), Some(&bread.answer.id));
    // All words, the last of them begun; capitals and accents do not matter.
    assert_eq!(home.find("FLÖUR and wa").len(), 1);
    assert_eq!(home.find("flour tea").len(), 0);
    assert_eq!(home.find("\"flour and water\"").len(), 1);
    assert_eq!(home.find("\"water and flour\"").len(), 0);
    let patch = ConversationPatch { title: Some("Breakfast drinks".into()), ..ConversationPatch::default() };
    home.store.patch(tea.conversation.id.clone(), patch).wait().unwrap();
    let found = home.find("breakfast");
    assert_eq!(marked(found[0].found.as_ref().unwrap()), "[Breakfast] drinks");
    assert_eq!(found[0].found.as_ref().unwrap().message_id, None);
}

#[test]
fn scripts_without_spaces_are_found_by_any_of_their_words() {
    let home = Home::new();
    let cat = home.say(None, "私は猫が好きです");
    home.answer(&cat, "我也喜欢猫和狗");
    for (word, hits) in [("猫", 2), ("猫が好き", 1), ("喜欢猫", 1), ("狗和", 0), ("犬", 0)] {
        let found = home.find(word);
        let count = found.first().map_or(0, |c| c.found.as_ref().unwrap().messages);
        assert_eq!(count, hits, "{word}");
    }
    assert_eq!(marked(home.find("猫和狗")[0].found.as_ref().unwrap()), "我也喜欢[猫和狗]");
}

#[test]
fn no_query_is_syntax() {
    let home = Home::new();
    let turn = home.say(None, "the NEAR field of text: a \"quoted\" word, c++ AND 100%");
    home.answer(&turn, "ok");
    for found in
        ["NEAR", "text:", "AND", "\"quoted", "c++", "100%", "(word", "word)", "fie*", "-word", "the OR field"]
    {
        let hits = home.find(found).len();
        assert_eq!(hits, usize::from(found != "the OR field"), "{found}");
    }
    for nothing in
        ["'; DROP TABLE messages; --", "\u{0}", "*", "\"\"", "^", "{", "NOT", "rowid:1", "\u{fdd0}"]
    {
        assert_eq!(home.find(nothing).len(), 0, "{nothing:?}");
    }
    let long = ConversationQuery { q: Some("x".repeat(2000)), ..ConversationQuery::default() };
    assert!(matches!(home.store.list(&long), Err(StoreError::Invalid { .. })));
}

#[test]
fn pages_of_hits_follow_one_another() {
    let home = Home::new();
    let ids: Vec<String> = (0..7).map(|_| home.talk(2).id).collect();
    let mut query =
        ConversationQuery { q: Some("water".into()), limit: Some(3), ..ConversationQuery::default() };
    let mut seen = Vec::new();
    loop {
        let (page, next) = home.store.list(&query).unwrap();
        assert!(page.iter().all(|c| c.found.as_ref().unwrap().messages == 2));
        seen.extend(page.into_iter().map(|c| c.id));
        match next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, ids.into_iter().rev().collect::<Vec<_>>());
}
