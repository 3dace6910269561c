//! `Plan`: what the service runs.

use std::ffi::OsString;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use perch_server::Config;

use super::args::ServiceInstall;
use crate::client::url;

/// The server that the manager starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The `perch` binary.
    pub(super) program: PathBuf,
    /// Its data folder; `None` leaves it to the manager (a system-wide service has one of its own).
    pub(super) data_dir: Option<PathBuf>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) models_dirs: Vec<PathBuf>,
    /// Variables that are passed on from the environment of the installation.
    pub(super) environment: Vec<(String, String)>,
}

/// Where models lie and how the hub is reached: what a server in the background would otherwise not know. Tokens and keys
/// are not among them: a description of a service can be read by others.
const PASSED_ON: [&str; 6] =
    ["HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_OFFLINE", "XDG_DATA_HOME"];

impl Plan {
    /// What `install` asks for.
    ///
    /// # Errors
    /// Other machines could reach the server without a key; the port is 0; the binary cannot be found.
    pub(super) fn new(install: &ServiceInstall, system_wide: bool, config: &Config) -> Result<Self> {
        let host = install.host.clone().unwrap_or_else(|| config.host.clone());
        let port = install.port.unwrap_or(config.port);
        if port == 0 {
            bail!("a service needs a fixed port; name one with --port");
        }
        if !is_loopback(&host) && config.keys.is_empty() {
            bail!(
                "listening on {host} would let other machines in without a key; put `api_key = \"…\"` into {} first, or \
                 leave --host out",
                config.data_dir.join("config.toml").display()
            );
        }
        if !is_loopback(&host) && system_wide {
            bail!(
                "a system-wide service has a data folder of its own, so that its key must be set there: install it \
                 without --host, then put `host` and `api_key` into /var/lib/perch/config.toml and run `perch service \
                 restart --system-wide`"
            );
        }
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let absolute =
            |dir: &PathBuf| std::path::absolute(dir).with_context(|| format!("bad path {}", dir.display()));
        let passed =
            |name: &str| Some((name.to_string(), std::env::var(name).ok().filter(|v| !v.is_empty())?));
        Ok(Self {
            program,
            data_dir: (!system_wide).then(|| absolute(&config.data_dir)).transpose()?,
            host,
            port,
            models_dirs: install.models_dirs.iter().map(absolute).collect::<Result<_>>()?,
            environment: if system_wide {
                Vec::new()
            } else {
                PASSED_ON.into_iter().filter_map(passed).collect()
            },
        })
    }

    /// The arguments of the program. `host` and `port` stand there even where they are the usual ones: the service stays
    /// where its clients know it, whatever is written into config.toml later.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["serve".into()];
        if let Some(dir) = &self.data_dir {
            arguments.extend(["--data-dir".into(), dir.into()]);
        }
        arguments.extend(["--host".into(), OsString::from(&self.host)]);
        arguments.extend(["--port".into(), self.port.to_string().into()]);
        for dir in &self.models_dirs {
            arguments.extend(["--models-dir".into(), dir.into()]);
        }
        arguments
    }

    /// Where it will answer, seen from this machine.
    pub(super) fn url(&self) -> String {
        url(&self.host, self.port)
    }

    /// # Errors
    /// Another program listens there already.
    pub(super) fn check_port(&self) -> Result<()> {
        let host = if self.host == "localhost" { "127.0.0.1" } else { &self.host };
        match TcpListener::bind((host, self.port)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
                "port {} is taken; stop the program that has it (`perch ps` says whether it is a Perch), or choose another \
                 with --port",
                self.port
            ),
            // Whatever else is wrong with the address, the server says itself.
            _ => Ok(()),
        }
    }
}

/// Where the service that `file` describes answers: by its own `--host` and `--port`, else as configured.
pub(super) fn address_of(file: &Path, config: &Config) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let host = value_after(&text, "--host").unwrap_or_else(|| config.host.clone());
    let port = value_after(&text, "--port").and_then(|port| port.parse().ok()).unwrap_or(config.port);
    url(&host, port)
}

/// The word after a flag, in a unit (`"--port" "8080"`) or a property list (`<string>--port</string>` and so on).
fn value_after(text: &str, flag: &str) -> Option<String> {
    let rest = &text[text.find(flag)? + flag.len()..];
    let rest = rest.trim_start_matches('"').trim_start().trim_start_matches("</string>").trim_start();
    let rest = rest.strip_prefix("<string>").unwrap_or(rest).trim_start_matches('"');
    let word: String = rest.chars().take_while(|c| !matches!(c, '"' | '<') && !c.is_whitespace()).collect();
    (!word.is_empty()).then_some(word)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn plan() -> Plan {
        Plan {
            program: "/opt/my apps/perch".into(),
            data_dir: Some("/home/ann/a \"b\" 100% $HOME\\x".into()),
            host: "127.0.0.1".into(),
            port: 8090,
            models_dirs: vec!["/models <&>".into()],
            environment: vec![("HF_HOME".into(), "/data/hf 'x'".into())],
        }
    }

    fn install(host: Option<&str>, port: Option<u16>) -> ServiceInstall {
        ServiceInstall { host: host.map(str::to_string), port, models_dirs: Vec::new(), print: false }
    }

    #[test]
    fn a_service_for_other_machines_needs_a_key() {
        let config = Config::new("/nowhere");
        let error = Plan::new(&install(Some("0.0.0.0"), None), false, &config).unwrap_err();
        assert!(error.to_string().contains("api_key"), "{error}");
        assert!(Plan::new(&install(None, None), false, &config).is_ok());
        assert!(Plan::new(&install(Some("::1"), None), false, &config).is_ok());
    }

    #[test]
    fn a_service_has_a_fixed_port() {
        let config = Config::new("/nowhere");
        assert!(Plan::new(&install(None, Some(0)), false, &config).is_err());
    }

    #[test]
    fn a_taken_port_is_found_before_anything_is_written() {
        let holder = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let plan = Plan { port: holder.local_addr().unwrap().port(), ..plan() };
        assert!(plan.check_port().unwrap_err().to_string().contains("is taken"));
    }

    #[test]
    fn the_address_is_read_back_from_what_was_written() {
        let config = Config::new("/nowhere");
        let dir = tempfile::tempdir().unwrap();
        for text in [
            super::super::systemd::unit(&plan(), false),
            super::super::launchd::property_list(&plan(), "/l").unwrap(),
        ] {
            let file = dir.path().join("service");
            std::fs::write(&file, text).unwrap();
            assert_eq!(address_of(&file, &config), "http://127.0.0.1:8090");
        }
    }
}
