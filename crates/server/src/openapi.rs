//! `ApiDoc`: the description of all routes, generated from the handlers and the wire types.

use perch_protocol::openai::*;
use perch_protocol::*;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::routes::{docs, health, openai, status};

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
        health::health,
        status::now,
        status::events,
        status::requests,
        status::metrics,
        docs::openapi,
    ),
    components(schemas(ChatChunk, ErrorEnvelope)),
    tags(
        (name = "openai", description = "OpenAI's dialect"),
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
