//! Perch in the menu bar: the tray, its menu, the dashboard's window and the login item, around the same server that
//! `perch serve` runs.
//!
//! Everything that waits runs on one runtime of our own; what Tauri draws runs on the main thread. The server is driven
//! through [`perch_server::Control`], whose state is the one source of what the tray shows.

#[cfg(target_os = "macos")]
mod app_menu;
mod compose;
mod desktop;
mod live;
mod logging;
mod login;
mod menu;
mod shell;
mod tray;
mod updates;
mod window;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use tauri::{Manager, RunEvent};
use tauri_plugin_window_state::StateFlags;

use shell::Shell;

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<i32> {
    #[cfg(target_os = "linux")]
    if ["DISPLAY", "WAYLAND_DISPLAY"].iter().all(|name| std::env::var_os(name).is_none()) {
        anyhow::bail!("there is no display for a tray; `perch serve` runs without one");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tauri::async_runtime::set(runtime.handle().clone());
    let remembered = StateFlags::SIZE | StateFlags::POSITION | StateFlags::MAXIMIZED;
    let builder = tauri::Builder::default()
        // First, so that a second instance ends before it does anything else.
        .plugin(tauri_plugin_single_instance::init(|app, _, _| window::show(app, "")))
        .plugin(tauri_plugin_autostart::Builder::new().app_name("Perch").build())
        .plugin(tauri_plugin_opener::init())
        .plugin(tauri_plugin_window_state::Builder::new().with_state_flags(remembered).build());
    let builder = match updates::Feed::of_this_build() {
        Some(feed) => builder.plugin(feed.plugin()),
        None => builder,
    };
    #[cfg(target_os = "macos")]
    let builder = builder.menu(app_menu::build).on_menu_event(tray::clicked);
    #[allow(unused_mut, reason = "only a Mac changes it")]
    let mut app = builder
        .setup(|app| Ok(Shell::start(app.handle())?))
        .build(tauri::generate_context!())
        .context("cannot start the app")?;
    // Before `run`: later there would be an icon in the Dock for a moment.
    #[cfg(target_os = "macos")]
    app.set_activation_policy(tauri::ActivationPolicy::Accessory);
    let code = app.run_return(|app, event| match event {
        // The last window was closed; the tray stays.
        RunEvent::ExitRequested { code: None, api, .. } => api.prevent_exit(),
        // Reached by every way out, also by those that ask nobody, such as the end of the session.
        RunEvent::Exit => {
            if let Some(shell) = app.try_state::<Shell>() {
                tauri::async_runtime::block_on(shell.end());
            }
        }
        #[cfg(target_os = "macos")]
        RunEvent::Reopen { .. } => window::show(app, ""),
        _ => {}
    });
    // Everything of ours has ended; what still blocks in a library must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}
