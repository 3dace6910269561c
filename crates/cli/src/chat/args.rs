//! The words of `perch chat`.

use clap::Args;

use crate::args::{LibraryArgs, LoadArgs, ServerArgs};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch chat                               Chat with the default model
  perch chat Qwen/Qwen3-0.6B --system \"Answer in French.\"
  perch chat --load travel                 Go on with a saved chat

A running server is used if there is one, else one is started for the time of the chat. Inside, /help
lists the commands. Ctrl-C stops an answer, Ctrl-D or /quit ends the chat. Text that is piped in is
answered line by line.")]
pub(crate) struct Chat {
    /// Model to chat with [default: the default model]
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Instructions that stand before the chat
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Saved chat to go on with: its name or a file
    #[arg(long, value_name = "NAME")]
    pub(crate) load: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
    #[command(flatten)]
    pub(crate) limits: LoadArgs,
}
