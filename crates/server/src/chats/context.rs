//! What of a conversation a model is shown: all of it, or its newest turns.
//!
//! A turn is what a person says with all that follows until they speak again; a turn is shown whole or not at all, and
//! the system prompt always. What does not fit is cut by more than needed, and the cut is kept for the turns that follow:
//! the prompt then begins the same way again, and its prefix is found in the cache.

use perch_protocol::ErrorCode;
use perch_protocol::conversations::{ConversationMessage, MessageState};
use perch_protocol::openai::{Content, Role};
use serde_json::{Value, json};

use crate::error::ApiError;

/// How many turns may be shown, and where the last answer's cut was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Tokens that the prompt may take.
    pub(super) budget: usize,
    /// Turns that may be shown.
    pub(super) max_turns: Option<usize>,
    /// Turns that the last answer was not shown.
    pub(super) cut: usize,
}

/// The messages to show, and how many turns were left out.
#[derive(Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) messages: Vec<Value>,
    pub(super) left_out: usize,
}

/// Chooses the turns to show. `count` says how many tokens a prompt with these messages has.
///
/// # Errors
/// What `count` says. A last turn that is too long by itself is shown all the same: the engine refuses it with its
/// numbers.
pub(super) fn fit(
    system: Option<&str>,
    branch: &[ConversationMessage],
    rules: Rules,
    count: impl Fn(&[Value]) -> Result<usize, ApiError>,
) -> Result<Shown, ApiError> {
    let first = branch.iter().take_while(|message| message.role == Role::System).count();
    let (instructions, rest) = branch.split_at(first);
    let mut head: Vec<Value> =
        system.map(|text| json!({"role": "system", "content": text})).into_iter().collect();
    head.extend(instructions.iter().filter_map(shown));
    let begins: Vec<usize> = (0..rest.len())
        .filter(|&at| at == 0 || (rest[at].role == Role::User && rest[at - 1].role != Role::User))
        .collect();
    let all = begins.len();
    let most_left_out = all.saturating_sub(1);
    let from = |left_out: usize| {
        let begin = begins.get(left_out).copied().unwrap_or(rest.len());
        let mut messages = head.clone();
        rest[begin..].iter().filter_map(shown).for_each(|message| append(&mut messages, message));
        messages
    };
    // No token has less than a byte: where all of it would fit again (in a longer context), nothing stays cut.
    let may_all = rules.max_turns.is_none_or(|most| all <= most);
    let bytes: usize = from(0).iter().map(|message| message.to_string().len()).sum();
    let mut left_out = if may_all && bytes <= rules.budget { 0 } else { rules.cut.min(most_left_out) };
    if let Some(most) = rules.max_turns
        && all - left_out > most
    {
        left_out = all - spare(most).max(1);
    }
    let fits = |left_out: usize, budget: usize| match count(&from(left_out)) {
        Ok(tokens) => Ok(tokens <= budget),
        // Too much for the template itself: fewer turns may not be.
        Err(error) if error.code == ErrorCode::TemplateLimit && left_out < most_left_out => Ok(false),
        Err(error) => Err(error),
    };
    if left_out < most_left_out && !fits(left_out, rules.budget)? {
        let (mut too_few, mut enough) = (left_out, most_left_out);
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            match fits(middle, spare(rules.budget))? {
                true => enough = middle,
                false => too_few = middle,
            }
        }
        left_out = enough;
    }
    Ok(Shown { messages: from(left_out), left_out })
}

/// What is kept of something that has to be cut: three quarters.
fn spare(whole: usize) -> usize {
    whole - whole / 4
}

/// A message as templates read it; `None` for an answer that never came.
fn shown(message: &ConversationMessage) -> Option<Value> {
    let content = match &message.content {
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => {
            let text =
                parts.iter().map(|part| part.text.as_deref().unwrap_or("(an image that you cannot see)"));
            text.collect::<Vec<_>>().join("\n")
        }
    };
    let mut value = match message.role {
        Role::System | Role::Developer => json!({"role": "system", "content": content}),
        Role::User => json!({"role": "user", "content": content}),
        Role::Tool => json!({"role": "tool", "content": content, "tool_call_id": message.tool_call_id}),
        Role::Assistant => {
            let nothing = content.is_empty() && message.tool_calls.is_empty();
            if nothing && message.state != MessageState::Complete {
                return None;
            }
            json!({"role": "assistant", "content": content})
        }
    };
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            json!({"id": call.id, "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments}})
        });
        value["tool_calls"] = calls.collect();
    }
    if let Some(thought) = message.reasoning.as_ref().filter(|_| message.role == Role::Assistant) {
        value["reasoning_content"] = thought.as_str().into();
    }
    Some(value)
}

/// Adds a message. What a person said twice, because the answer in between never came, is one message: templates want
/// the roles to take turns.
fn append(messages: &mut Vec<Value>, message: Value) {
    if message["role"] == "user"
        && let Some(last) = messages.last_mut().filter(|last| last["role"] == "user")
        && let (Some(before), Some(after)) = (last["content"].as_str(), message["content"].as_str())
    {
        last["content"] = format!("{before}\n\n{after}").into();
        return;
    }
    messages.push(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: Role, text: &str) -> ConversationMessage {
        let value = json!({"id": "0", "role": role, "content": text, "created_at": 0});
        serde_json::from_value(value).unwrap()
    }

    /// `u0 a0 u1 a1 …`, each a word.
    fn talk(turns: usize) -> Vec<ConversationMessage> {
        let turn = |n| [message(Role::User, &format!("u{n}")), message(Role::Assistant, &format!("a{n}"))];
        let mut branch: Vec<_> = (0..turns).flat_map(turn).collect();
        branch.pop();
        branch
    }

    /// A token for each message.
    fn messages(shown: &[Value]) -> Result<usize, ApiError> {
        Ok(shown.len())
    }

    fn words(shown: &Shown) -> Vec<&str> {
        shown.messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
    }

    const ALL: Rules = Rules { budget: usize::MAX, max_turns: None, cut: 0 };

    #[test]
    fn what_fits_is_shown_whole() {
        let shown = fit(Some("be kind"), &talk(3), Rules { budget: 6, ..ALL }, messages).unwrap();
        assert_eq!(words(&shown), ["be kind", "u0", "a0", "u1", "a1", "u2"]);
        assert_eq!(shown.left_out, 0);
    }

    #[test]
    fn what_does_not_fit_is_cut_by_whole_turns_with_a_quarter_to_spare() {
        // 41 messages with the prompt, 20 may be shown, 15 are to be: 7 answered turns, the question and the prompt.
        let shown = fit(Some("be kind"), &talk(20), Rules { budget: 20, ..ALL }, messages).unwrap();
        assert_eq!(shown.messages.len(), 14);
        assert_eq!(words(&shown)[..2], ["be kind", "u13"]);
        assert_eq!(shown.left_out, 13);
        // The next turns begin at the same place until they do not fit either.
        for turns in 21..=23 {
            let next =
                fit(Some("be kind"), &talk(turns), Rules { budget: 20, cut: 13, ..ALL }, messages).unwrap();
            assert_eq!((next.left_out, words(&next)[1]), (13, "u13"));
        }
        let next = fit(Some("be kind"), &talk(24), Rules { budget: 20, cut: 13, ..ALL }, messages).unwrap();
        assert!(next.left_out > 13);
    }

    #[test]
    fn the_last_turn_is_shown_whatever_it_takes() {
        let shown = fit(Some("be kind"), &talk(5), Rules { budget: 1, ..ALL }, messages).unwrap();
        assert_eq!((words(&shown), shown.left_out), (vec!["be kind", "u4"], 4));
        let shown = fit(None, &talk(1), Rules { budget: 0, ..ALL }, messages).unwrap();
        assert_eq!(words(&shown), ["u0"]);
    }

    #[test]
    fn at_most_so_many_turns_are_shown() {
        let rules = Rules { max_turns: Some(8), ..ALL };
        assert_eq!(fit(None, &talk(8), rules, messages).unwrap().left_out, 0);
        let shown = fit(None, &talk(9), rules, messages).unwrap();
        assert_eq!((words(&shown)[0], shown.left_out), ("u3", 3));
        assert_eq!(fit(None, &talk(3), Rules { max_turns: Some(1), ..ALL }, messages).unwrap().left_out, 2);
    }

    #[test]
    fn answers_that_never_came_are_not_shown_and_tool_results_stay_with_their_turn() {
        let mut failed = message(Role::Assistant, "");
        failed.state = MessageState::Failed;
        let branch = [message(Role::User, "one"), failed, message(Role::User, "two")];
        assert_eq!(words(&fit(None, &branch, ALL, messages).unwrap()), ["one\n\ntwo"]);
        let branch = [
            message(Role::System, "rules"),
            message(Role::User, "u0"),
            message(Role::Assistant, "call"),
            message(Role::Tool, "result"),
            message(Role::Assistant, "a0"),
            message(Role::User, "u1"),
        ];
        let shown = fit(None, &branch, Rules { budget: 3, ..ALL }, messages).unwrap();
        assert_eq!((words(&shown), shown.left_out), (vec!["rules", "u1"], 1));
    }
}
