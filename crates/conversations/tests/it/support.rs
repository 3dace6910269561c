//! A store in a folder of its own, and talks in it.

use std::path::PathBuf;

use perch_conversations::{Parent, Said, Store, Turn};
use perch_protocol::conversations::{
    Conversation, ConversationMessage, ConversationQuery, MessageQuery, MessageState, NewConversation,
};
use perch_protocol::openai::Content;
use tempfile::TempDir;

/// A store in a folder of its own.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: Store::open(dir.path()).unwrap(), dir }
    }

    /// The same after the process has ended in good order.
    pub(crate) fn again(self) -> Self {
        let Self { dir, store } = self;
        drop(store);
        Self { store: Store::open(dir.path()).unwrap(), dir }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("conversations.db")
    }

    /// Says something at the end of a conversation, or in a new one.
    pub(crate) fn say(&self, conversation: Option<&str>, text: &str) -> Turn {
        self.say_at(conversation, Parent::Head, Some(text)).unwrap()
    }

    pub(crate) fn say_at(
        &self,
        conversation: Option<&str>,
        parent: Parent,
        text: Option<&str>,
    ) -> Result<Turn, perch_conversations::StoreError> {
        let conversation = conversation.map(str::to_owned).ok_or_else(NewConversation::default);
        let content = text.map(|text| Content::Text(text.to_owned()));
        self.store.say(Said { conversation, parent, content, model: Some("tiny".into()) }).wait()
    }

    /// Completes an answer.
    pub(crate) fn answer(&self, turn: &Turn, text: &str) -> ConversationMessage {
        let mut message = turn.answer.clone();
        message.content = Content::Text(text.to_owned());
        message.state = MessageState::Complete;
        assert!(self.store.rewrite(turn.conversation.id.clone(), message.clone()).wait().unwrap());
        message
    }

    /// A conversation of so many questions and answers.
    pub(crate) fn talk(&self, turns: usize) -> Conversation {
        let mut id = None;
        for n in 0..turns {
            let turn = self.say(id.as_deref(), &format!("question {n} about bread"));
            self.answer(&turn, &format!("answer {n} about water"));
            id = Some(turn.conversation.id);
        }
        self.store.conversation(&id.unwrap()).unwrap()
    }

    pub(crate) fn messages(&self, id: &str) -> Vec<ConversationMessage> {
        self.store.detail(id, &MessageQuery::default()).unwrap().messages
    }

    /// The texts of the branch that is shown.
    pub(crate) fn branch(&self, id: &str) -> Vec<String> {
        let head = self.store.conversation(id).unwrap().head.unwrap();
        self.store.branch(id, &head).unwrap().iter().map(text).collect()
    }

    pub(crate) fn find(&self, q: &str) -> Vec<Conversation> {
        self.store.list(&ConversationQuery { q: Some(q.into()), ..ConversationQuery::default() }).unwrap().0
    }

    pub(crate) fn list(&self) -> Vec<Conversation> {
        self.store.list(&ConversationQuery::default()).unwrap().0
    }
}

pub(crate) fn text(message: &ConversationMessage) -> String {
    match &message.content {
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => parts.iter().filter_map(|part| part.text.clone()).collect(),
    }
}
