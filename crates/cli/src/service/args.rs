//! The words of `perch service`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch service install                    Run in the background from now on
  perch service status
  perch service logs --follow
  perch service install --port 8090        Change what it does
  perch service uninstall")]
pub(crate) struct Service {
    #[command(subcommand)]
    pub(crate) verb: ServiceVerb,
    /// For all users, from boot on, under a user of its own (Linux; needs root)
    #[arg(long, global = true)]
    pub(crate) system_wide: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceVerb {
    /// Set the service up and start it; again, to change it
    Install(ServiceInstall),
    /// Stop it and take it away; models and settings stay
    Uninstall,
    /// Start it
    Start,
    /// Stop it until it is started, or until the next login
    Stop,
    /// Stop it and start it
    Restart,
    /// Show whether it runs and answers
    Status,
    /// Show the end of its log
    Logs {
        /// How many lines
        #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
        lines: usize,
        /// Go on as lines come
        #[arg(long, short)]
        follow: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServiceInstall {
    /// Address to listen on; anything but this machine itself needs a key in config.toml [default: as configured]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Port to listen on [default: as configured]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Folder with models; may be given more than once
    #[arg(long = "models-dir", value_name = "DIR")]
    pub(crate) models_dirs: Vec<PathBuf>,
    /// Print what would be written, and change nothing
    #[arg(long)]
    pub(crate) print: bool,
}
