//! Routes: what is asked and answered over HTTP, one module for each dialect or concern.

pub(crate) mod admin;
pub(crate) mod chat;
pub(crate) mod dashboard;
pub(crate) mod docs;
pub(crate) mod downloads;
pub(crate) mod health;
pub(crate) mod hub;
pub(crate) mod library;
pub(crate) mod logs;
pub(crate) mod openai;
pub(crate) mod settings;
pub(crate) mod status;
pub(crate) mod usage;
