//! The service on Linux: a unit of the user's systemd, or of the system's.
//!
//! Sources: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.syntax(7).

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};

use super::plan::Plan;
use super::{Manager, NAME, State};
use crate::whole;

const SYSTEM_UNITS: &str = "/etc/systemd/system";

pub(super) struct Systemd {
    system_wide: bool,
    folder: PathBuf,
}

impl Systemd {
    pub(super) fn new(system_wide: bool) -> Result<Self> {
        let folder = match system_wide {
            true => SYSTEM_UNITS.into(),
            false => user_units(|name| env::var_os(name).map(PathBuf::from), env::home_dir())?,
        };
        Ok(Self { system_wide, folder })
    }

    fn systemctl(&self) -> Command {
        let mut command = Command::new("systemctl");
        if !self.system_wide {
            command.arg("--user");
        }
        command
    }

    /// Runs `systemctl VERB perch.service`.
    fn control(&self, verb: &str) -> Result<()> {
        let mut command = self.systemctl();
        command.arg(verb);
        if verb != "daemon-reload" {
            command.arg(format!("{NAME}.service"));
        }
        let output = match command.stdin(Stdio::null()).output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "this system has no systemd; start `perch serve` by the means that it has (`perch service install \
                 --print` shows a unit's command line)"
            ),
            output => output.context("cannot run systemctl")?,
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        let hint = match said.contains("connect to bus") || said.contains("to bus:") {
            true if !self.system_wide => "; log in as this user (not with su or sudo), or use --system-wide",
            _ if said.contains("denied") || said.contains("authentication") => "; use sudo",
            _ => "",
        };
        bail!("`systemctl {verb}` failed: {said}{hint}")
    }
}

impl Manager for Systemd {
    fn file(&self) -> PathBuf {
        self.folder.join(format!("{NAME}.service"))
    }

    fn describe(&self, plan: &Plan) -> Result<String> {
        Ok(unit(plan, self.system_wide))
    }

    fn install(&self, plan: &Plan) -> Result<()> {
        whole::write(&self.file(), &self.describe(plan)?)?;
        let installed = self.control("daemon-reload").and_then(|()| self.control("enable"));
        installed.with_context(|| format!("{} is written, but not in use", self.file().display()))
    }

    fn uninstall(&self) -> Result<()> {
        self.control("disable")?;
        self.control("stop")?;
        fs::remove_file(self.file()).with_context(|| format!("cannot remove {}", self.file().display()))?;
        self.control("daemon-reload")
    }

    fn start(&self) -> Result<()> {
        self.control("start")
    }

    fn stop(&self) -> Result<()> {
        self.control("stop")
    }

    fn restart(&self) -> Result<()> {
        self.control("restart")
    }

    fn state(&self) -> Result<State> {
        let mut command = self.systemctl();
        command.args(["show", "--property=ActiveState,SubState", &format!("{NAME}.service")]);
        let output = command.stdin(Stdio::null()).output().context("cannot run systemctl")?;
        if !output.status.success() {
            bail!("systemctl says: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let value =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("unknown").to_string();
        let (active, sub) = (value("ActiveState="), value("SubState="));
        // Between two attempts it is "activating (auto-restart)".
        Ok(State { running: active == "active", words: format!("{active} ({sub})") })
    }

    fn logs(&self, lines: usize, follow: bool) -> Result<()> {
        let mut command = Command::new("journalctl");
        match self.system_wide {
            true => command.args(["--unit", NAME]),
            false => command.args(["--user", "--unit", NAME]),
        };
        command.args(["--no-pager", "--output=cat", "--lines", &lines.to_string()]);
        if follow {
            command.arg("--follow");
        }
        command.status().context("cannot run journalctl")?;
        Ok(())
    }

    fn hint(&self) -> Option<String> {
        let user = env::var("USER").unwrap_or_else(|_| "$USER".to_string());
        (!self.system_wide).then(|| {
            format!(
                "It runs while you are logged in; `loginctl enable-linger {user}` lets it run from boot on."
            )
        })
    }
}

/// `$XDG_CONFIG_HOME/systemd/user`, else `~/.config/systemd/user`.
fn user_units(var: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf> {
    let config = var("XDG_CONFIG_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| home.map(|home| home.join(".config")))
        .context("there is no home folder; use --system-wide")?;
    Ok(config.join("systemd").join("user"))
}

/// The unit's text.
pub(super) fn unit(plan: &Plan, system_wide: bool) -> String {
    let program = std::iter::once(quoted(plan.program.as_os_str()));
    let line: Vec<String> = program.chain(plan.arguments().iter().map(|word| quoted(word))).collect();
    let environment: String = plan
        .environment
        .iter()
        .map(|(name, value)| format!("Environment={}\n", quoted_value(&format!("{name}={value}"))))
        .collect();
    let (scope, target) = match system_wide {
        true => (SYSTEM_SCOPE, "multi-user.target"),
        false => ("", "default.target"),
    };
    format!(
        "\
[Unit]
Description=Perch, language models on this machine
Documentation=https://github.com/perch-app/perch

[Service]
ExecStart={}
{environment}Restart=on-failure
RestartSec=2
# Running answers have 5 s.
TimeoutStopSec=10
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
{scope}
[Install]
WantedBy={target}
",
        line.join(" ")
    )
}

/// A user of its own, who may write to `/var/lib/perch` and see nobody's home.
const SYSTEM_SCOPE: &str = "\
DynamicUser=yes
StateDirectory=perch
StateDirectoryMode=0700
Environment=\"PERCH_DATA_DIR=%S/perch\" \"HF_HOME=%S/perch/huggingface\"
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateTmp=yes
PrivateDevices=yes
RestrictNamespaces=yes
CapabilityBoundingSet=
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
";

/// A word of `ExecStart`: `$` and `%` have meanings there of their own.
fn quoted(word: &OsStr) -> String {
    quoted_value(&word.to_string_lossy()).replace('$', "$$")
}

/// A quoted word elsewhere.
fn quoted_value(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::plan::tests::plan;
    use super::*;

    #[test]
    fn words_with_spaces_and_signs_reach_the_program_as_they_are() {
        let unit = unit(&plan(), false);
        let line = unit.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert_eq!(
            line,
            r#"ExecStart="/opt/my apps/perch" "serve" "--data-dir" "/home/ann/a \"b\" 100%% $$HOME\\x" "--host" "127.0.0.1" "--port" "8090" "--models-dir" "/models <&>""#
        );
        assert!(unit.contains("Environment=\"HF_HOME=/data/hf 'x'\"\n"));
    }

    #[test]
    fn systemd_itself_finds_nothing_wrong_with_the_unit() {
        if Command::new("systemd-analyze").arg("--version").output().is_err() {
            eprintln!("skipped: systemd-analyze is not here");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("a perch");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        for system_wide in [false, true] {
            let path = dir.path().join(format!("{NAME}.service"));
            let plan = Plan { program: program.clone(), ..plan() };
            whole::write(&path, &unit(&plan, system_wide)).unwrap();
            let mut analyze = Command::new("systemd-analyze");
            analyze.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&path);
            let output = analyze.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).to_string();
            assert!(output.status.success() && !said.contains("perch.service:"), "{said}");
        }
    }

    #[test]
    fn the_package_has_the_same_unit() {
        let packaged = include_str!("../../../../installers/linux/perch.service");
        let own = unit(&plan(), false);
        let lines = own.lines().filter(|line| {
            !line.is_empty() && !line.starts_with("ExecStart=") && !line.starts_with("Environment=")
        });
        for line in lines {
            assert!(packaged.lines().any(|packaged| packaged == line), "{line}");
        }
    }

    #[test]
    fn units_lie_where_systemd_looks() {
        let home = || Some(PathBuf::from("/home/ann"));
        let none = |_: &str| None;
        assert_eq!(user_units(none, home()).unwrap(), Path::new("/home/ann/.config/systemd/user"));
        let xdg = |_: &str| Some(PathBuf::from("/x"));
        assert_eq!(user_units(xdg, home()).unwrap(), Path::new("/x/systemd/user"));
        assert!(user_units(none, None).is_err());
    }
}
