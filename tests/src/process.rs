//! `Server` and `Perch`: the real binary, started as users start it, in an environment of its own.
//!
//! Every process gets an empty home, no `PERCH_*` and no `HF_*` variable, and is killed when its handle is dropped.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use tempfile::TempDir;

use crate::Api;

/// How long a server may take to say that it listens. Loading comes after that.
const START: Duration = Duration::from_secs(30);

/// The `perch` binary that is tested: the one that `TESTS_PERCH` names, or the one beside this test's own, built if need
/// be.
pub fn perch() -> &'static Path {
    static PERCH: OnceLock<PathBuf> = OnceLock::new();
    PERCH.get_or_init(|| {
        if let Some(perch) = env::var_os("TESTS_PERCH") {
            return perch.into();
        }
        let test = env::current_exe().expect("a test knows its own path");
        let profile = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "perch"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        build.env("CARGO_TARGET_DIR", profile.parent().expect("target"));
        assert!(build.status().expect("cargo runs").success(), "perch does not build");
        profile.join(format!("perch{}", env::consts::EXE_SUFFIX))
    })
}

/// The `perch` command in an empty home.
#[derive(Debug)]
pub struct Perch {
    home: TempDir,
    guide: bool,
    env: Vec<(String, String)>,
}

impl Default for Perch {
    fn default() -> Self {
        Self::new()
    }
}

impl Perch {
    /// An empty home, and no built-in guide: a test's models are the only ones.
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(home.path().join("data/models")).expect("a data folder");
        Self { home, guide: false, env: Vec::new() }
    }

    /// The same with the built-in guide, as users have it.
    pub fn with_guide(self) -> Self {
        Self { guide: true, ..self }
    }

    /// The same with one more environment variable.
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_string(), value.to_string()));
        self
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The folder of the data folder that is looked into for models.
    pub fn models_dir(&self) -> PathBuf {
        self.data_dir().join("models")
    }

    /// `perch ARGS`, ready to run in this home.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(perch());
        for (name, _) in env::vars_os() {
            let known = name.to_string_lossy();
            if ["PERCH_", "HF_", "XDG_", "HUGGINGFACE_", "RUST_"]
                .iter()
                .any(|prefix| known.starts_with(prefix))
            {
                command.env_remove(&name);
            }
        }
        command.env("HOME", self.home.path()).env("PERCH_DATA_DIR", self.data_dir());
        if !self.guide {
            command.env("PERCH_BUILTIN", "false");
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs `perch ARGS` to its end. Returns its exit code, standard output and standard error.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> (Option<i32>, String, String) {
        let output = self.command(args).output().expect("perch runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("perch writes UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Starts `perch serve --port 0 ARGS` and waits until it says where it listens.
    pub fn serve<A: AsRef<OsStr>>(self, args: impl IntoIterator<Item = A>) -> Server {
        let mut command = self.command(["serve", "--port", "0"]);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("perch starts");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let to = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = to.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (said, hears) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let _ = stdout.read_line(&mut first);
            let _ = said.send(first);
            // Keeps the pipe open, so that later lines do not end the server.
            let _ = stdout.read_to_end(&mut Vec::new());
        });
        let first = hears.recv_timeout(START).unwrap_or_default();
        let mut server = Server { child, log, perch: self, url: String::new() };
        let url = first.strip_prefix("Perch is listening on ").map(|url| url.trim_end().to_string());
        server.url = url.unwrap_or_else(|| panic!("the first line was {first:?}; log:\n{}", server.log()));
        server
    }
}

/// A running `perch serve`.
#[derive(Debug)]
pub struct Server {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Its home.
    pub perch: Perch,
    /// `http://HOST:PORT`.
    pub url: String,
}

impl Server {
    /// A client of it.
    pub fn api(&self) -> Api {
        Api::new(&self.url)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written to standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal by name, as `kill -TERM` does.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success(), "the server is gone already");
    }

    /// Waits for it to end; panics after `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be waited for") {
                return status;
            }
            assert!(start.elapsed() < limit, "the server still runs after {limit:?}; log:\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it, if it still runs, and starts another in the same home.
    pub fn again(mut self) -> Server {
        let perch = std::mem::take(&mut self.perch);
        drop(self);
        perch.serve([""; 0])
    }

    /// A value in kB from `/proc/PID/status`, in bytes; `None` on systems without it.
    pub fn proc_status(&self, key: &str) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- the end of the server's log ---\n{}", last.join("\n"));
        }
    }
}
