//! Downloads in the words of the API.

use perch_hub::download::{Download, DownloadState, Select, Wanted};
use perch_hub::remote::Revision;
use perch_protocol as protocol;

use crate::clock::millis;
use crate::error::ApiError;

/// What a request asks for.
pub(crate) fn wanted(request: &protocol::DownloadRequest) -> Result<Wanted, ApiError> {
    let bad = |param: &'static str| {
        move |error: perch_hub::remote::BadName| ApiError::invalid(param, error.to_string())
    };
    let parsed = Wanted::parse(&request.model).map_err(bad("model"))?;
    let select = match (parsed.select, &request.quantization, &request.files) {
        (Select::Best, None, None) => Select::Best,
        (Select::Variant(label), None, None) => Select::Variant(label),
        (Select::Files(files), None, None) => Select::Files(files),
        (Select::Best, Some(label), None) => Select::Variant(label.clone()),
        (Select::Best, None, Some(files)) if !files.is_empty() && files.len() <= 1_000 => {
            Select::Files(files.clone())
        }
        (Select::Best, None, Some(_)) => {
            return Err(ApiError::invalid("files", "name at least one file or pattern, and at most 1,000"));
        }
        (_, _, Some(_)) => {
            return Err(ApiError::invalid("files", "name files or a quantisation, not both"));
        }
        (_, Some(_), None) => {
            return Err(ApiError::invalid(
                "quantization",
                "`model` names a quantisation already; say it once",
            ));
        }
    };
    let revision = request.revision.as_deref().map(Revision::new).transpose().map_err(bad("revision"))?;
    Ok(Wanted { repo: parsed.repo, revision: revision.unwrap_or_default(), select })
}

/// A download as clients see it.
pub(crate) fn download(download: Download) -> protocol::Download {
    let files = download.files.into_iter().map(|file| protocol::DownloadFile {
        path: file.path,
        size_bytes: file.size_bytes,
        done_bytes: file.done_bytes,
        completed: file.completed,
    });
    protocol::Download {
        id: download.id,
        repo: download.repo,
        model: download.model,
        quantization: download.quantization,
        revision: download.revision,
        commit: download.commit,
        state: match download.state {
            DownloadState::Queued => protocol::DownloadState::Queued,
            DownloadState::Downloading => protocol::DownloadState::Downloading,
            DownloadState::Retrying => protocol::DownloadState::Retrying,
            DownloadState::Paused => protocol::DownloadState::Paused,
            DownloadState::Completed => protocol::DownloadState::Completed,
            DownloadState::Failed => protocol::DownloadState::Failed,
        },
        error: download.error.map(|error| ApiError::from(error).problem()),
        files: files.collect(),
        total_bytes: download.total_bytes,
        done_bytes: download.done_bytes,
        bytes_per_second: download.bytes_per_second,
        seconds_left: download.seconds_left,
        created_at: millis(download.created_at),
        ended_at: download.ended_at.map(millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(
        model: &str,
        quantization: Option<&str>,
        files: Option<&[&str]>,
    ) -> Result<Select, Option<String>> {
        let request = protocol::DownloadRequest {
            model: model.to_owned(),
            quantization: quantization.map(str::to_owned),
            files: files.map(|files| files.iter().map(|file| (*file).to_owned()).collect()),
            revision: None,
        };
        wanted(&request).map(|wanted| wanted.select).map_err(|error| error.param)
    }

    #[test]
    fn a_quantisation_is_said_in_one_place() {
        let variant = Ok(Select::Variant("Q8_0".into()));
        assert_eq!(request("a/b:Q8_0", None, None), variant);
        assert_eq!(request("a/b", Some("Q8_0"), None), variant);
        assert_eq!(request("a/b", None, None), Ok(Select::Best));
        assert_eq!(request("a/b", None, Some(&["*.json"])), Ok(Select::Files(vec!["*.json".into()])));
        assert_eq!(request("a/b:Q8_0", Some("Q8_0"), None), Err(Some("quantization".into())));
        assert_eq!(request("a/b:Q8_0", None, Some(&["x"])), Err(Some("files".into())));
        assert_eq!(request("a/b", None, Some(&[])), Err(Some("files".into())));
        assert_eq!(request("../b", None, None), Err(Some("model".into())));
    }
}
