//! `Shell`: holds the server's control, the dashboard's surface and the tray together, and does what the menu asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use http::Method;
use perch_protocol::Phase;
use perch_server::{ApiError, Control, Snapshot, Surface};
use serde_json::{Value, json};
use tauri::{AppHandle, Manager};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::compose::{Composer, Said, config};
use crate::desktop::App;
use crate::menu::{Action, View};
use crate::tray::{Picture, Tray};
use crate::updates::{Feed, Known, Updates};
use crate::{logging, login, window};

/// Least time between two drawings.
const PACE: Duration = Duration::from_millis(150);
/// How often the list of models is looked at again; what is loaded is known at once.
const MODELS: Duration = Duration::from_secs(60);
/// A file in the data folder that says that the dashboard has introduced itself, and on which port: there it finds again
/// what it remembers.
const INTRODUCED: &str = ".introduced";

/// The app's parts. Lives as long as the app.
pub(crate) struct Shell {
    control: Control,
    surface: Surface,
    said: Arc<Mutex<Said>>,
    clipboard: Mutex<Option<arboard::Clipboard>>,
    notice: Mutex<Option<String>>,
    updates: Updates,
    /// Something besides the server has changed.
    changed: Notify,
    quitting: AtomicBool,
}

impl Shell {
    /// Puts the icon into the tray and starts the server.
    ///
    /// # Errors
    /// When there is no tray to be had, or no port for the dashboard.
    pub(crate) fn start(app: &AppHandle) -> Result<()> {
        // What is wrong with the configuration is for the control to say, in the tray.
        let known = config().ok();
        let logs = logging::start(known.as_ref().and_then(|config| config.log.as_deref()));
        let said: Arc<Mutex<Said>> = Arc::default();
        let control = Control::new(Composer::new(logs, said.clone()));
        let port = known.and_then(|config| std::fs::read_to_string(config.data_dir.join(INTRODUCED)).ok());
        let port = port.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let desktop = Arc::new(App(app.clone()));
        let surface = tauri::async_runtime::block_on(Surface::open(control.clone(), desktop, port));
        let surface = surface.context("there is no port for the dashboard")?;
        let tray = Arc::new(Tray::new(app)?);
        app.manage(Self {
            control: control.clone(),
            surface,
            said,
            clipboard: Mutex::default(),
            notice: Mutex::default(),
            updates: Updates::new(Feed::of_this_build()),
            changed: Notify::new(),
            quitting: AtomicBool::new(false),
        });
        login::renew(app);
        tauri::async_runtime::spawn(keep_drawn(app.clone(), tray));
        tauri::async_runtime::spawn(end_on_signal(app.clone()));
        let app = app.clone();
        tauri::async_runtime::spawn(async move {
            // Its failure is seen in the tray.
            let _ = control.start(None).await;
            introduce(&app);
        });
        Ok(())
    }

    /// The dashboard's door.
    pub(crate) fn surface(&self) -> &Surface {
        &self.surface
    }

    /// Does what was clicked.
    pub(crate) fn act(&self, app: &AppHandle, action: Action) {
        *lock(&self.notice) = None;
        match action {
            Action::Dashboard => window::show(app, ""),
            Action::Models => window::show(app, "#/models"),
            Action::ApiDocs => {
                if let Some(url) = self.control.now().server.url {
                    window::browse(app, &format!("{url}/docs"));
                }
            }
            Action::Updates if self.updates.known() == Known::OnTheWeb => {
                window::browse(app, concat!(env!("CARGO_PKG_REPOSITORY"), "/releases"));
            }
            Action::Updates => {
                if self.updates.begin(Known::Asking) {
                    tauri::async_runtime::spawn(look_for_updates(app.clone()));
                }
            }
            Action::InstallUpdate => {
                if let Known::Newer(version) = self.updates.known()
                    && self.updates.begin(Known::Installing(version))
                {
                    tauri::async_runtime::spawn(install_update(app.clone()));
                }
            }
            Action::CopyUrl => self.copy_url(),
            Action::LaunchAtLogin => {
                if let Err(error) = login::toggle(app) {
                    self.tell(format!("Launch at login could not be changed: {error}"));
                }
            }
            Action::Quit => quit(app),
            later => {
                tauri::async_runtime::spawn(work(app.clone(), later));
            }
        }
        // A click on a check mark changes it on the screen; what counts is drawn over it.
        self.changed.notify_one();
    }

    /// Draws what has changed besides the server.
    pub(crate) fn redraw(&self) {
        self.changed.notify_one();
    }

    /// Ends the server and the surface, with time for running answers. Calling it again waits as well.
    pub(crate) async fn end(&self) {
        self.control.shutdown().await;
        self.surface.shutdown().await;
    }

    fn copy_url(&self) {
        let Some(url) = self.control.now().server.url else { return };
        let mut clipboard = lock(&self.clipboard);
        // Kept: on X11 what was copied goes with the program that offers it.
        if clipboard.is_none() {
            *clipboard = arboard::Clipboard::new().ok();
        }
        let copied = clipboard.as_mut().map(|clipboard| clipboard.set_text(format!("{url}/v1")));
        drop(clipboard);
        if !matches!(copied, Some(Ok(()))) {
            self.tell(format!("The clipboard cannot be reached; the address is {url}/v1"));
        }
    }

    /// Says in the menu what went wrong, until the next click.
    fn tell(&self, text: String) {
        tracing::warn!("{text}");
        *lock(&self.notice) = Some(text);
        self.changed.notify_one();
    }

    fn view(&self, app: &AppHandle, seen: Snapshot, models: Vec<String>) -> View {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        View {
            seen,
            models,
            performance: lock(&self.said).performance,
            at_login: login::is_on(app),
            updates: self.updates.known(),
            notice: lock(&self.notice).clone(),
            quitting: self.quitting.load(Ordering::Acquire),
            now: u64::try_from(now.as_millis()).unwrap_or_default(),
        }
    }
}

/// Lets running answers finish, and ends the app.
pub(crate) fn quit(app: &AppHandle) {
    let Some(shell) = app.try_state::<Shell>() else { return app.exit(0) };
    if shell.quitting.swap(true, Ordering::AcqRel) {
        return;
    }
    shell.changed.notify_one();
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        app.state::<Shell>().end().await;
        app.exit(0);
    });
}

async fn look_for_updates(app: AppHandle) {
    let shell = app.state::<Shell>();
    if let Err(failed) = shell.updates.ask(&app).await {
        shell.tell(failed);
    }
    shell.changed.notify_one();
}

/// Installs, lets running answers finish, and starts the new version.
async fn install_update(app: AppHandle) {
    let shell = app.state::<Shell>();
    if let Err(failed) = shell.updates.install().await {
        return shell.tell(failed);
    }
    shell.quitting.store(true, Ordering::Release);
    shell.changed.notify_one();
    shell.end().await;
    app.request_restart();
}

/// What takes time and may fail.
async fn work(app: AppHandle, action: Action) {
    let shell = app.state::<Shell>();
    let control = &shell.control;
    let failed = match action {
        // What keeps a server from starting is in its state, and so in the menu.
        Action::Start => control.start(None).await.err().and(None),
        Action::StartOn(port) => control.start(Some(port)).await.err().and(None),
        Action::Restart => control.restart(None).await.err().and(None),
        Action::Stop => {
            control.stop().await;
            None
        }
        Action::Load(model) => ask(control, "/api/v1/load-model", &model).await.err(),
        Action::Unload(model) => ask(control, "/api/v1/unload-model", &model).await.err(),
        Action::Performance(mode) => {
            let body = json!({ "settings": { "performance": mode.as_str() } });
            match control.ask(Method::PATCH, "/api/settings", Some(&body)).await {
                Ok(_) => control.restart(None).await.err().and(None),
                Err(error) => Some(error),
            }
        }
        _ => None,
    };
    if let Some(error) = failed {
        shell.tell(error.message);
    }
    shell.changed.notify_one();
}

async fn ask(control: &Control, path: &str, model: &str) -> Result<Value, ApiError> {
    control.ask(Method::POST, path, Some(&json!({ "model": model }))).await
}

/// Draws the tray whenever it would look different.
async fn keep_drawn(app: AppHandle, tray: Arc<Tray>) {
    let shell = app.state::<Shell>();
    let mut seen = shell.control.watch();
    let mut models: Vec<String> = Vec::new();
    let mut loaded: Vec<String> = Vec::new();
    let mut looked: Option<tokio::time::Instant> = None;
    let mut drawn: Option<Picture> = None;
    loop {
        let now = seen.borrow_and_update().clone();
        let loaded_now: Vec<String> = now.status.models.iter().map(|model| model.id.clone()).collect();
        if now.server.phase != Phase::Running {
            looked = None;
        } else if loaded != loaded_now || looked.is_none_or(|at| at.elapsed() >= MODELS) {
            if let Some(pool) = shell.control.pool() {
                models = pool.list().await.iter().map(|entry| entry.id.clone()).collect();
            }
            looked = Some(tokio::time::Instant::now());
        }
        loaded = loaded_now;
        let view = shell.view(&app, now, models.clone());
        let clicked = tokio::select! {
            biased;
            () = shell.changed.notified() => true,
            () = std::future::ready(()) => false,
        };
        let picture = Picture::of(&view);
        if clicked || drawn.as_ref().is_none_or(|drawn| !drawn.looks_like(&picture)) {
            let (tray, on, copy) = (tray.clone(), app.clone(), picture.clone());
            let drawing = app.run_on_main_thread(move || {
                if let Err(error) = tray.draw(&on, copy) {
                    tracing::error!("the menu could not be drawn: {error}");
                }
            });
            if drawing.is_err() {
                return;
            }
            drawn = Some(picture);
        }
        tokio::time::sleep(PACE).await;
        tokio::select! {
            changed = seen.changed() => if changed.is_err() { return },
            () = shell.changed.notified() => shell.changed.notify_one(),
        }
    }
}

/// SIGTERM and Ctrl-C are as good as Quit.
async fn end_on_signal(app: AppHandle) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return tracing::warn!("signals cannot be heard; quit from the menu");
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    quit(&app);
}

/// Opens the dashboard the first time that the app runs.
fn introduce(app: &AppHandle) {
    let shell = app.state::<Shell>();
    let folder = lock(&shell.said).data_dir.clone();
    if folder.as_os_str().is_empty() {
        return;
    }
    let (mark, port) = (folder.join(INTRODUCED), shell.surface.port().to_string());
    let before = std::fs::read_to_string(&mark).ok();
    if before.as_deref() != Some(&*port)
        && let Err(error) = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&mark, port))
    {
        tracing::warn!("{} could not be written: {error}", mark.display());
    }
    if before.is_none() {
        let on = app.clone();
        let _ = app.run_on_main_thread(move || window::show(&on, ""));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
