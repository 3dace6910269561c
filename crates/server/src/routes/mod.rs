//! Routes: what is asked and answered over HTTP, one module for each dialect or concern.

pub(crate) mod docs;
pub(crate) mod health;
pub(crate) mod openai;
pub(crate) mod status;
