//! Which model answers requests that name none: the one that is configured, else the one that the user chose, else the
//! only one, else the one that was installed last. The built-in model counts only where there is no other.

use std::cmp::Reverse;

use perch_protocol::{DefaultModel, DefaultSource, ErrorCode};

use super::ModelPool;
use crate::error::ApiError;

impl ModelPool {
    /// The id of the default model that was configured or chosen.
    pub fn default_model(&self) -> Option<String> {
        self.inner.configured.clone().or_else(|| self.inner.choices.get().default_model)
    }

    /// The model that answers requests which name none, and why.
    pub async fn default_now(&self) -> DefaultModel {
        let answer = |model: String, source| DefaultModel { model: Some(model), source: Some(source) };
        if let Some(configured) = &self.inner.configured {
            return answer(configured.clone(), DefaultSource::Configured);
        }
        if let Some(chosen) = self.inner.choices.get().default_model
            // What was chosen may have been deleted since.
            && let Ok(entry) = self.find(&chosen).await
        {
            return answer(entry.id.clone(), DefaultSource::Chosen);
        }
        let models = self.list().await;
        let installed = || models.iter().filter(|entry| entry.built_in.is_none());
        let newest = installed().max_by_key(|entry| (entry.modified, Reverse(&entry.id)));
        match newest.or(models.first()) {
            Some(newest) if installed().count() > 1 => answer(newest.id.clone(), DefaultSource::Newest),
            Some(only) => answer(only.id.clone(), DefaultSource::Only),
            None => DefaultModel { model: None, source: None },
        }
    }

    /// Makes a model the default, from now on and after a restart; `None` forgets the choice.
    ///
    /// # Errors
    /// `model_not_found`; `conflict` where the default is configured, which a choice cannot change.
    pub async fn choose_default(&self, name: Option<&str>) -> Result<DefaultModel, ApiError> {
        let id = match name {
            Some(name) => Some(self.find(name).await?.id.clone()),
            None => None,
        };
        if let Some(configured) =
            self.inner.configured.as_ref().filter(|configured| Some(*configured) != id.as_ref())
        {
            let message = format!(
                "the default model is `{configured}` by the configuration; change or remove `model` there (or the flag \
                 --model)"
            );
            return Err(ApiError::new(ErrorCode::Conflict, message).with_param("model"));
        }
        let pool = self.inner.clone();
        let change = move || pool.choices.change(|chosen| chosen.default_model = id);
        let changed = tokio::task::spawn_blocking(change).await;
        changed.map_err(|_| ApiError::new(ErrorCode::EngineError, "keeping the choice failed"))??;
        self.inner.touch();
        Ok(self.default_now().await)
    }

    /// The id of the model that answers requests which name none.
    pub(crate) async fn default_name(&self) -> Result<String, ApiError> {
        let Some(model) = self.default_now().await.model else {
            let message = "there are no models on this machine; put one into a folder named by `models_dirs`";
            return Err(ApiError::new(ErrorCode::ModelNotFound, message).with_param("model"));
        };
        let mut answering = self.inner.answering.lock();
        if answering.as_ref() != Some(&model) {
            *answering = Some(model.clone());
        }
        Ok(model)
    }

    /// The default as far as it is known without a look at the disk.
    pub(super) fn default_shown(&self) -> Option<String> {
        self.default_model().or_else(|| self.inner.answering.lock().clone())
    }
}
