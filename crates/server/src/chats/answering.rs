//! The task that answers: waits for what is being said before, takes the model, shows it what fits, writes the answer down
//! and tells whoever asked.

use std::time::Duration;

use perch_conversations::Turn;
use perch_protocol::conversations::{
    ChatTurnEvent, Conversation, ConversationMessage, MessageState, SamplingSettings,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::context::{Rules, fit};
use super::writing::Writing;
use super::{Chats, Running};
use crate::app::App;
use crate::error::ApiError;
use crate::inference::{Answer, Asked, ChatInput, Delta, Input, Job, prompt_tokens};
use crate::observe::RequestId;
use crate::pool::Lease;
use crate::upstream::{Heard, Upstream};

/// Events that may wait for a slow reader.
const AHEAD: usize = 64;
/// How long an answer that nobody seems to be writing any more is waited for.
const LINGER: Duration = Duration::from_secs(1);

/// What to ask a model.
pub(crate) struct Ask {
    pub(crate) id: RequestId,
    pub(crate) route: &'static str,
    /// Which model; `None` is the default.
    pub(crate) model: Option<String>,
    /// How to sample, all put together.
    pub(crate) sampling: SamplingSettings,
    /// The same, checked, with nothing said yet.
    pub(crate) job: Job,
    pub(crate) turn: Turn,
    /// Whether the conversation is kept.
    pub(crate) kept: bool,
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Out {
    Event(Box<ChatTurnEvent>),
    /// The last event of an answer that failed.
    Failed(ApiError, Box<ConversationMessage>),
}

/// An answer on its way.
pub(crate) type Asking = mpsc::Receiver<Out>;

impl Chats {
    /// Begins to answer. Dropping what is returned ends the answer; what there is of it is kept.
    pub(crate) fn ask(&self, app: App, ask: Ask) -> Asking {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let (cancel, ended) = (CancellationToken::new(), CancellationToken::new());
        let id = ask.turn.answer.id.clone();
        if ask.kept {
            let conversation = ask.turn.conversation.id.clone();
            let running = Running { conversation, cancel: cancel.clone(), ended: ended.clone() };
            self.inner.running.lock().insert(id.clone(), running);
        }
        let chats = self.clone();
        self.inner.tasks.spawn(async move {
            Task { chats: chats.clone(), app, ask, sender }.run(cancel).await;
            chats.inner.running.lock().remove(&id);
            ended.cancel();
        });
        receiver
    }

    /// Waits until nothing on the branch before a message is being written, and returns the branch.
    async fn branch(&self, conversation: &str, last: &str) -> Result<Vec<ConversationMessage>, ApiError> {
        let mut since = None;
        loop {
            let (id, message) = (conversation.to_owned(), last.to_owned());
            let branch = self.read(move |store| store.branch(&id, &message)).await?;
            let Some(running) = branch.iter().find(|message| message.state == MessageState::Running) else {
                return Ok(branch);
            };
            let ended = self.inner.running.lock().get(&running.id).map(|running| running.ended.clone());
            match ended {
                Some(ended) => ended.cancelled().await,
                // Its task has just begun, or just ended; or its end could not be written down.
                None if since.get_or_insert_with(std::time::Instant::now).elapsed() > LINGER => {
                    return Ok(branch);
                }
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

struct Task {
    chats: Chats,
    app: App,
    ask: Ask,
    sender: mpsc::Sender<Out>,
}

/// Where an answer comes from.
enum Source {
    Here(Answer),
    There(Heard),
}

impl Source {
    async fn next(&mut self) -> Option<Result<Delta, ApiError>> {
        match self {
            Self::Here(answer) => answer.next().await,
            Self::There(answer) => answer.next().await,
        }
    }
}

/// How an answer ended, if not well.
enum End {
    Gone,
    Failed(ApiError),
}

impl Task {
    async fn run(self, cancel: CancellationToken) {
        let turn = &self.ask.turn;
        let store = if self.ask.kept { self.chats.store().await.ok() } else { None };
        let kept = store.map(|store| (store, turn.conversation.id.clone()));
        let mut writing = Writing::new(turn.answer.clone(), kept);
        let start = ChatTurnEvent::Start {
            conversation: self.ask.kept.then(|| turn.conversation.clone()),
            user_message: turn.user_message.clone().filter(|_| self.ask.kept),
            message_id: turn.answer.id.clone(),
        };
        let result = tokio::select! {
            result = async {
                self.tell(start).await?;
                self.answer(&mut writing).await
            } => result,
            () = self.sender.closed() => Err(End::Gone),
            () = cancel.cancelled() => Err(End::Gone),
        };
        let (state, error) = match result {
            Ok(()) => (MessageState::Complete, None),
            Err(End::Gone) if self.app.abort.is_cancelled() => (MessageState::Interrupted, None),
            Err(End::Gone) => (MessageState::Cancelled, None),
            Err(End::Failed(error)) if self.app.abort.is_cancelled() => {
                (MessageState::Interrupted, Some(error))
            }
            Err(End::Failed(error)) => (MessageState::Failed, Some(error)),
        };
        let (message, written) = writing.finish(state, error.as_ref()).await;
        if let Err(error) = &written {
            tracing::error!(message = message.id, "an answer could not be kept: {error}");
        }
        let last = match error.or(written.err()) {
            Some(error) => Out::Failed(error, Box::new(message)),
            None if state == MessageState::Interrupted => {
                Out::Failed(ApiError::stopping(), Box::new(message))
            }
            None if state == MessageState::Cancelled => Out::Failed(deleted(), Box::new(message)),
            None => {
                let conversation = self.conversation().await;
                Out::Event(Box::new(ChatTurnEvent::Done { conversation, message }))
            }
        };
        // Whoever has gone away needs no last word.
        let _ = self.sender.send(last).await;
    }

    /// The conversation as it is now.
    async fn conversation(&self) -> Option<Conversation> {
        if !self.ask.kept {
            return None;
        }
        let id = self.ask.turn.conversation.id.clone();
        self.chats.read(move |store| store.conversation(&id)).await.ok()
    }

    async fn tell(&self, event: ChatTurnEvent) -> Result<(), End> {
        self.sender.send(Out::Event(Box::new(event))).await.map_err(|_| End::Gone)
    }

    async fn answer(&self, writing: &mut Writing) -> Result<(), End> {
        let turn = &self.ask.turn;
        let branch = match (self.ask.kept, &turn.answer.parent) {
            (true, Some(asked)) => self.or_stopping(self.chats.branch(&turn.conversation.id, asked)).await?,
            _ => turn.user_message.iter().cloned().collect(),
        };
        let mut answer = match self.or_stopping(self.upstream()).await? {
            Some(upstream) => Source::There(self.ask_there(upstream, branch, writing).await?),
            None => Source::Here(self.ask_here(branch, writing).await?),
        };
        while let Some(delta) = self.or_stopping(async { answer.next().await.transpose() }).await? {
            match delta {
                Delta::Part { part, .. } => {
                    if let Some(event) = writing.add(part) {
                        self.tell(event).await?;
                    }
                }
                Delta::Finished { finish, .. } => writing.ended(&finish),
                Delta::Done(tally) => writing.counted(tally),
            }
        }
        Ok(())
    }

    /// The other server that runs the model, if one does.
    async fn upstream(&self) -> Result<Option<Upstream>, ApiError> {
        match self.ask.model.as_deref() {
            Some(name) => Upstream::of(&self.app.pool.find(name).await?.config),
            None => Ok(None),
        }
    }

    async fn ask_here(&self, branch: Vec<ConversationMessage>, writing: &mut Writing) -> Result<Answer, End> {
        let lease = self.or_stopping(self.app.pool.lease(self.ask.model.as_deref())).await?;
        writing.message.model = Some(lease.id.clone());
        let (job, left_out) = self.or_stopping(self.shown(&lease, branch)).await?;
        self.trimmed(left_out, writing).await?;
        let asked = Asked { id: self.ask.id.clone(), route: self.ask.route, model: Some(&lease.id) };
        self.app.answer(asked, job).await.map_err(End::Failed)
    }

    /// Another server is shown all turns that may be: how long its context is, only it knows.
    async fn ask_there(
        &self,
        upstream: Upstream,
        branch: Vec<ConversationMessage>,
        writing: &mut Writing,
    ) -> Result<Heard, End> {
        writing.message.model = Some(upstream.id.clone());
        let rules = Rules {
            budget: usize::MAX,
            max_turns: self.chats.config().max_turns,
            cut: cut(&branch, &upstream.id),
        };
        let shown = fit(self.system().as_deref(), &branch, rules, |_| Ok(0)).map_err(End::Failed)?;
        self.trimmed(shown.left_out as u64, writing).await?;
        let running = self.app.activity.begin(self.ask.id.0.clone(), self.ask.route);
        let asked = upstream.chat(&self.app.upstreams, shown.messages, &self.ask.sampling, running);
        self.or_stopping(asked).await
    }

    async fn trimmed(&self, left_out_turns: u64, writing: &mut Writing) -> Result<(), End> {
        if left_out_turns == 0 {
            return Ok(());
        }
        writing.message.left_out_turns = left_out_turns;
        self.tell(ChatTurnEvent::Trimmed { left_out_turns }).await
    }

    /// The instructions of the conversation, or those for all of them.
    fn system(&self) -> Option<String> {
        let said = self.ask.turn.conversation.system_prompt.clone();
        said.or_else(|| self.chats.config().system_prompt.clone())
    }

    /// What `work` comes to, unless the server stops first.
    async fn or_stopping<T>(&self, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, End> {
        tokio::select! {
            result = work => result.map_err(End::Failed),
            () = self.app.abort.cancelled() => Err(End::Failed(ApiError::stopping())),
        }
    }

    /// The job with what the model is to be shown, and how many turns that leaves out.
    async fn shown(&self, lease: &Lease, branch: Vec<ConversationMessage>) -> Result<(Job, u64), ApiError> {
        let text = lease.text.clone();
        let entry = lease.entry();
        let system = self.system().or_else(|| entry.config.system.clone());
        let rules = Rules {
            budget: budget(lease, self.ask.sampling.max_tokens),
            max_turns: self.chats.config().max_turns,
            cut: cut(&branch, &lease.id),
        };
        let mut job = self.ask.job.clone();
        let settings = entry.config.clone();
        let turn = self.app.text_work.clone().acquire_owned().await.map_err(|_| ApiError::stopping())?;
        let work = tokio::task::spawn_blocking(move || {
            let effort = match &job.input {
                Input::Chat(chat) => chat.effort.clone(),
                Input::Texts(_) | Input::Tokens(_) => None,
            };
            let with = |messages: &[serde_json::Value]| {
                let chat =
                    ChatInput { messages: messages.to_vec(), effort: effort.clone(), ..ChatInput::default() };
                let mut job = Job { input: Input::Chat(Box::new(chat)), ..Job::default() };
                // What the configuration adds takes tokens too.
                job.settle(&settings);
                job.input
            };
            let shown =
                fit(system.as_deref(), &branch, rules, |messages| prompt_tokens(&text, &with(messages)))?;
            job.input = with(&shown.messages);
            drop(turn);
            Ok((job, shown.left_out as u64))
        });
        work.await.map_err(|_| super::failed())?
    }
}

/// Turns that the last answer of the model was not shown.
fn cut(branch: &[ConversationMessage], model: &str) -> usize {
    let last = branch.iter().rev().find(|message| message.left_out_turns > 0 || message.usage.is_some());
    let cut = last.filter(|last| last.model.as_deref() == Some(model)).map_or(0, |last| last.left_out_turns);
    usize::try_from(cut).unwrap_or(usize::MAX)
}

/// Tokens that a prompt may take: what the model has room for, less a quarter for the answer, or less where the answer
/// is to be shorter.
fn budget(lease: &Lease, max_tokens: Option<u64>) -> usize {
    let limits = lease.engine.limits();
    let kv = lease.engine.stats().kv_budget_bytes / (limits.kv_bytes_per_token.max(1) as u64);
    let room = limits.context_length.min(usize::try_from(kv).unwrap_or(usize::MAX));
    let answer = max_tokens.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    room - answer.min(room / 4)
}

fn deleted() -> ApiError {
    ApiError::new(perch_protocol::ErrorCode::NotFound, "the conversation was deleted while it was answered")
}
