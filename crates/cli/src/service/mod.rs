//! `perch service`: the server in the background, kept by the system: systemd on Linux, launchd on a Mac.
//!
//! What differs between the two is a [`Manager`]; everything else (what is run, whether it may listen where it is told to,
//! whether it answers) is here.

mod args;
mod health;
mod launchd;
mod plan;
mod systemd;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use perch_server::Config;

pub(crate) use args::Service;
use args::{ServiceInstall, ServiceVerb};
use plan::Plan;

/// The name of the service, to people and to the system.
const NAME: &str = "perch";

/// A program that starts others, keeps them alive and keeps their logs.
trait Manager {
    /// Where the description of the service lies.
    fn file(&self) -> PathBuf;
    /// The description of a service that runs the plan.
    fn describe(&self, plan: &Plan) -> Result<String>;
    /// Writes the description; the service starts with the system, or with the user's session, from then on.
    fn install(&self, plan: &Plan) -> Result<()>;
    /// Stops the service and takes its description away.
    fn uninstall(&self) -> Result<()>;
    /// Starts what is not running.
    fn start(&self) -> Result<()>;
    /// Stops what is running; it drains for at most 5 s.
    fn stop(&self) -> Result<()>;
    /// Stops and starts.
    fn restart(&self) -> Result<()>;
    /// What the manager says of the service, in a word or two.
    fn state(&self) -> Result<State>;
    /// Shows the last lines of the log, and goes on if told to.
    fn logs(&self, lines: usize, follow: bool) -> Result<()>;
    /// What a user should know once it is installed.
    fn hint(&self) -> Option<String>;
}

/// What the manager says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    running: bool,
    /// The manager's own words: `active (running)`.
    words: String,
}

fn manager(system_wide: bool) -> Result<Box<dyn Manager>> {
    if cfg!(target_os = "macos") {
        return Ok(Box::new(launchd::Launchd::new(system_wide)?));
    }
    Ok(Box::new(systemd::Systemd::new(system_wide)?))
}

/// Runs one of the verbs. The exit code of `status` is 0 where the service runs and answers, 3 where it does not.
pub(crate) async fn run(args: &Service, config: &Config) -> Result<ExitCode> {
    let manager = manager(args.system_wide)?;
    match &args.verb {
        ServiceVerb::Install(install) => return self::install(&*manager, args, install, config).await,
        verb => installed(&*manager, verb)?,
    }
    match &args.verb {
        ServiceVerb::Install(_) => {}
        ServiceVerb::Uninstall => {
            manager.uninstall()?;
            println!("The service is gone. Models, conversations and settings are still in the data folder.");
        }
        ServiceVerb::Start => {
            manager.start()?;
            return answers(&*manager, &plan::address_of(&manager.file(), config)).await;
        }
        ServiceVerb::Stop => {
            manager.stop()?;
            println!("Stopped. It starts again with `perch service start`.");
        }
        ServiceVerb::Restart => {
            manager.restart()?;
            return answers(&*manager, &plan::address_of(&manager.file(), config)).await;
        }
        ServiceVerb::Status => return status(&*manager, &plan::address_of(&manager.file(), config)).await,
        ServiceVerb::Logs { lines, follow } => manager.logs(*lines, *follow)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn installed(manager: &dyn Manager, verb: &ServiceVerb) -> Result<()> {
    if manager.file().exists() {
        return Ok(());
    }
    let missing = format!("the service is not installed ({} is not there)", manager.file().display());
    match verb {
        ServiceVerb::Uninstall => bail!("{missing}; there is nothing to take away"),
        _ => bail!("{missing}; `perch service install` does that"),
    }
}

async fn install(
    manager: &dyn Manager,
    args: &Service,
    install: &ServiceInstall,
    config: &Config,
) -> Result<ExitCode> {
    let plan = Plan::new(install, args.system_wide, config)?;
    if install.print {
        print!("{}", manager.describe(&plan)?);
        return Ok(ExitCode::SUCCESS);
    }
    let again = manager.file().exists();
    if !again {
        plan.check_port()?;
    }
    manager.install(&plan)?;
    println!("{} {}", if again { "Renewed" } else { "Installed" }, manager.file().display());
    // A service that was running goes on with what it was started with unless it is told.
    manager.restart()?;
    if let Some(hint) = manager.hint() {
        println!("{hint}");
    }
    answers(manager, &plan.url()).await
}

/// Waits until the server answers and says where; otherwise shows the end of its log.
async fn answers(manager: &dyn Manager, url: &str) -> Result<ExitCode> {
    match health::wait(url, || manager.state().is_ok_and(|state| state.running)).await {
        Ok(()) => {
            println!("Perch is listening on {url}");
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            eprintln!("error: the service was started, but {why}. The end of its log:\n");
            manager.logs(20, false)?;
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn status(manager: &dyn Manager, url: &str) -> Result<ExitCode> {
    let state = manager.state()?;
    println!("{NAME}: {}", state.words);
    if !state.running {
        println!("start it with `perch service start`");
        return Ok(ExitCode::from(NOT_RUNNING));
    }
    match health::now(url).await {
        Ok(()) => {
            println!("{url}: answers");
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            println!("{url}: {why}; `perch service logs` says more");
            Ok(ExitCode::from(NOT_RUNNING))
        }
    }
}

/// What `systemctl status` returns for a service that does not run.
const NOT_RUNNING: u8 = 3;
