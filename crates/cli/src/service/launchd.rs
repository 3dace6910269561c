//! The service on a Mac: an agent of the user's session, or a daemon of the system.
//!
//! Sources: launchd.plist(5), launchctl(1).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use plist::{Dictionary, Value};

use super::plan::Plan;
use super::{Manager, State};
use crate::whole;

/// The service's name to launchd.
const LABEL: &str = "app.perch.serve";

pub(super) struct Launchd {
    file: PathBuf,
    log: PathBuf,
    /// `gui/501` or `system`.
    domain: String,
}

impl Launchd {
    pub(super) fn new(system_wide: bool) -> Result<Self> {
        if system_wide {
            bail!("on a Mac the service belongs to a user; leave --system-wide out");
        }
        let home = std::env::home_dir().context("there is no home folder")?;
        let user = Command::new("id").arg("-u").output().context("cannot run id")?;
        let user = String::from_utf8_lossy(&user.stdout).trim().to_string();
        Ok(Self {
            file: home.join("Library/LaunchAgents").join(format!("{LABEL}.plist")),
            log: home.join("Library/Logs/Perch/perch.log"),
            domain: format!("gui/{user}"),
        })
    }

    fn target(&self) -> String {
        format!("{}/{LABEL}", self.domain)
    }

    fn launchctl(&self, args: &[&str]) -> Result<()> {
        let output = Command::new("launchctl")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .context("cannot run launchctl")?;
        if output.status.success() {
            return Ok(());
        }
        bail!("`launchctl {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())
    }

    fn loaded(&self) -> bool {
        let mut command = Command::new("launchctl");
        command
            .args(["print", &self.target()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Manager for Launchd {
    fn file(&self) -> PathBuf {
        self.file.clone()
    }

    fn describe(&self, plan: &Plan) -> Result<String> {
        property_list(plan, &self.log.to_string_lossy())
    }

    fn install(&self, plan: &Plan) -> Result<()> {
        let folder = self.log.parent().context("a log lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        whole::write(&self.file, &self.describe(plan)?)?;
        // launchd keeps what it read: out with the old description, in with the new one.
        if self.loaded() {
            self.stop()?;
        }
        Ok(())
    }

    fn uninstall(&self) -> Result<()> {
        if self.loaded() {
            self.stop()?;
        }
        fs::remove_file(&self.file).with_context(|| format!("cannot remove {}", self.file.display()))
    }

    fn start(&self) -> Result<()> {
        if self.loaded() {
            return self.launchctl(&["kickstart", &self.target()]);
        }
        let file = self.file.to_string_lossy();
        let bootstrap = || self.launchctl(&["bootstrap", &self.domain, &file]);
        let mut done = bootstrap();
        // An agent that was just taken out is not gone at once, and launchd refuses it until it is.
        for _ in 0..20 {
            if done.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(250));
            done = bootstrap();
        }
        done
    }

    fn stop(&self) -> Result<()> {
        self.launchctl(&["bootout", &self.target()])
    }

    fn restart(&self) -> Result<()> {
        if self.loaded() {
            return self.launchctl(&["kickstart", "-k", &self.target()]);
        }
        self.start()
    }

    fn state(&self) -> Result<State> {
        let output = Command::new("launchctl").args(["print", &self.target()]).output();
        let output = output.context("cannot run launchctl")?;
        if !output.status.success() {
            return Ok(State { running: false, words: "not loaded".to_string() });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let words = text.lines().find_map(|line| line.trim().strip_prefix("state = ")).unwrap_or("unknown");
        Ok(State { running: words == "running", words: words.to_string() })
    }

    fn logs(&self, lines: usize, follow: bool) -> Result<()> {
        let mut command = Command::new("tail");
        command.args(["-n", &lines.to_string()]);
        if follow {
            command.arg("-F");
        }
        command.arg(&self.log).status().context("cannot run tail")?;
        Ok(())
    }

    fn hint(&self) -> Option<String> {
        None
    }
}

/// The agent's property list.
pub(super) fn property_list(plan: &Plan, log: &str) -> Result<String> {
    let string = |text: &Path| Value::String(text.to_string_lossy().into_owned());
    let program = std::iter::once(string(&plan.program));
    let arguments = program.chain(plan.arguments().iter().map(|word| string(Path::new(word)))).collect();
    let environment: Dictionary =
        plan.environment.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    // It comes back after a crash, not after an orderly end.
    let keep_alive = Dictionary::from_iter([("SuccessfulExit", Value::Boolean(false))]);
    let agent = Dictionary::from_iter([
        ("Label", Value::String(LABEL.to_string())),
        ("ProgramArguments", Value::Array(arguments)),
        ("EnvironmentVariables", Value::Dictionary(environment)),
        ("RunAtLoad", Value::Boolean(true)),
        ("KeepAlive", Value::Dictionary(keep_alive)),
        ("ProcessType", Value::String("Interactive".to_string())),
        // Running answers have 5 s.
        ("ExitTimeOut", Value::Integer(10.into())),
        ("Umask", Value::Integer(0o077.into())),
        ("StandardOutPath", Value::String("/dev/null".to_string())),
        ("StandardErrorPath", Value::String(log.to_string())),
    ]);
    let mut bytes = Vec::new();
    Value::Dictionary(agent).to_writer_xml(&mut bytes).context("cannot write a property list")?;
    String::from_utf8(bytes).context("a property list is text")
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn the_property_list_says_what_is_run() {
        let text = property_list(&plan(), "/Users/ann/Library/Logs/Perch/perch.log").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.plist");
        fs::write(&path, &text).unwrap();
        // Python's own parser is the judge.
        let script = "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
        let Ok(output) = Command::new("python3").args(["-c", script]).arg(&path).output() else {
            eprintln!("skipped: python3 is not here");
            return;
        };
        let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(read["ProgramArguments"][0], "/opt/my apps/perch");
        assert_eq!(read["ProgramArguments"][3], "/home/ann/a \"b\" 100% $HOME\\x");
        assert_eq!(read["ProgramArguments"][9], "/models <&>");
        assert_eq!(read["EnvironmentVariables"]["HF_HOME"], "/data/hf 'x'");
        assert_eq!(read["KeepAlive"]["SuccessfulExit"], false);
        assert_eq!(read["Label"], LABEL);
    }
}
