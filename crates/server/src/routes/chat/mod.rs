//! Perch's own routes for chats: conversations that the server keeps, and asking in them. Thin over [`crate::chats`] and
//! the store.

pub(crate) mod generate;
pub(crate) mod keep;
pub(crate) mod models;
pub(crate) mod talk;
pub(crate) mod transfer;

mod settings;
mod stream;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::app::App;

/// Routes that ask models.
pub(crate) fn asking() -> Router<App> {
    Router::new()
        .route("/api/v1/chat", post(talk::say))
        .route("/api/v1/chat/models", get(models::list))
        .route("/api/v1/generate", post(generate::create))
        .route("/api/v1/health", get(models::health))
        .route("/api/v1/model-info", get(models::info))
}

/// Routes that show or change what is kept: whoever may use the models may not for that read what others have asked.
pub(crate) fn keeping() -> Router<App> {
    let one = get(keep::show).patch(keep::change).merge(delete(keep::delete));
    Router::new()
        .route("/api/v1/chat/new", post(keep::create))
        .route("/api/v1/chat/conversations", get(keep::list))
        .route("/api/v1/chat/conversation/{id}", one)
        .route("/api/v1/chat/conversation/{id}/fork", post(keep::fork))
        .route("/api/v1/chat/conversation/{id}/export", get(transfer::export))
        .route("/api/v1/chat/import", post(transfer::import))
        .route("/api/v1/chat/images/{hash}", get(transfer::image))
        .route("/api/v1/chat/switch-model", post(models::switch))
}
