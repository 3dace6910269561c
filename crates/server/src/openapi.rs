//! `ApiDoc`: the description of all routes, generated from the handlers and the wire types.

use perch_protocol::openai::*;
use perch_protocol::*;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::control::routes as control;
use crate::routes::{
    admin, chat, docs, downloads, health, hub, library, logs, openai, settings, status, usage,
};

/// The description of all routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Perch",
        description = "Open language models on this machine, for clients that speak OpenAI.",
    ),
    paths(
        openai::chat::create,
        openai::completions::create,
        openai::models::list,
        openai::models::one,
        admin::load,
        admin::unload,
        admin::pin,
        admin::unpin,
        admin::default_model,
        admin::choose_default,
        admin::reload,
        admin::restart,
        chat::talk::say,
        chat::keep::create,
        chat::keep::list,
        chat::keep::show,
        chat::keep::change,
        chat::keep::delete,
        chat::keep::fork,
        chat::transfer::export,
        chat::transfer::import,
        chat::transfer::image,
        chat::models::list,
        chat::models::switch,
        chat::models::info,
        chat::models::health,
        chat::generate::create,
        library::list,
        library::one,
        library::remove,
        library::import,
        library::stats,
        library::cleanup,
        health::health,
        status::now,
        status::events,
        status::requests,
        status::metrics,
        usage::report,
        usage::export,
        usage::erase,
        settings::get,
        settings::change,
        logs::list,
        logs::watch,
        control::state,
        control::start,
        control::stop,
        control::restart,
        control::app,
        control::change_app,
        hub::search,
        hub::popular,
        hub::model,
        hub::gguf_providers,
        downloads::start,
        downloads::watch,
        downloads::list,
        downloads::pause,
        downloads::resume,
        downloads::remove,
        docs::openapi,
    ),
    components(schemas(
        ChatChunk,
        conversations::ChatTurnEvent,
        conversations::PromptEvent,
        ErrorEnvelope,
        HubFormat,
        HubSort,
        LogLevel,
    )),
    tags(
        (name = "openai", description = "OpenAI's dialect"),
        (name = "models", description = "The models in memory"),
        (name = "library", description = "The models on this machine"),
        (name = "chat", description = "Conversations that the server keeps"),
        (name = "hub", description = "Models on the Hugging Face hub"),
        (name = "downloads", description = "Models on their way to this machine"),
        (name = "server", description = "The server itself"),
    ),
    security((), ("bearer" = []), ("x-api-key" = [])),
    modifiers(&Keys),
)]
pub(crate) struct ApiDoc;

struct Keys;

impl Modify for Keys {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let header = ApiKey::Header(ApiKeyValue::new("x-api-key"));
        components.add_security_scheme("x-api-key", SecurityScheme::ApiKey(header));
    }
}
