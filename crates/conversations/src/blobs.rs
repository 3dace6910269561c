//! Images, kept once by their content. A message refers to one by its address on the server; `data:` URLs are what comes
//! in and goes out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use perch_protocol::openai::{Content, ContentPart};
use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use crate::error::StoreError;

/// Where images are on the server; the hash follows.
pub(crate) const ADDRESS: &str = "/api/v1/chat/images/";

/// Kinds of images that are kept.
const KINDS: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `image/png` and the like.
    pub media_type: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Reads a `data:` URL. The error says what is wrong with it.
pub(crate) fn from_data_url(url: &str) -> Result<Image, String> {
    let shape = || "an image must be a URL of the form data:image/png;base64,…".to_owned();
    let (head, data) = url.strip_prefix("data:").and_then(|rest| rest.split_once(',')).ok_or_else(shape)?;
    let media_type = head.strip_suffix(";base64").ok_or_else(shape)?.to_ascii_lowercase();
    if !KINDS.contains(&media_type.as_str()) {
        return Err(format!("an image must be one of {}", KINDS.join(", ")));
    }
    let bytes = STANDARD.decode(data).map_err(|error| format!("the image is not valid base64: {error}"))?;
    Ok(Image { media_type, bytes })
}

fn to_data_url(image: &Image) -> String {
    format!("data:{};base64,{}", image.media_type, STANDARD.encode(&image.bytes))
}

/// The hashes of a content's images.
pub(crate) fn hashes(content: &Content) -> impl Iterator<Item = &str> {
    parts(content).iter().filter_map(|part| part.image_url.as_ref()?.url.strip_prefix(ADDRESS))
}

fn parts(content: &Content) -> &[ContentPart] {
    match content {
        Content::Text(_) => &[],
        Content::Parts(parts) => parts,
    }
}

fn parts_mut(content: &mut Content) -> &mut [ContentPart] {
    match content {
        Content::Text(_) => &mut [],
        Content::Parts(parts) => parts,
    }
}

/// Keeps a content's images, and puts their addresses in the place of their data.
pub(crate) fn take_in(connection: &Connection, content: &mut Content) -> Result<(), StoreError> {
    for part in parts_mut(content) {
        let Some(url) = part.image_url.as_mut().map(|image| &mut image.url) else { continue };
        if let Some(hash) = url.strip_prefix(ADDRESS) {
            if get(connection, hash)?.is_none() {
                return Err(StoreError::not_found("image", hash));
            }
            continue;
        }
        let image = from_data_url(url).map_err(|message| StoreError::invalid("image_url.url", message))?;
        let hash: String = Sha256::digest(&image.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        keep(connection, &hash, &image.media_type, &image.bytes)?;
        *url = format!("{ADDRESS}{hash}");
    }
    Ok(())
}

/// Puts a content's images in the place of their addresses.
pub(crate) fn put_out(connection: &Connection, content: &mut Content) -> Result<(), StoreError> {
    for part in parts_mut(content) {
        let Some(url) = part.image_url.as_mut().map(|image| &mut image.url) else { continue };
        if let Some(hash) = url.strip_prefix(ADDRESS)
            && let Some(image) = get(connection, hash)?
        {
            *url = to_data_url(&image);
        }
    }
    Ok(())
}

pub(crate) fn keep(
    connection: &Connection,
    hash: &str,
    media_type: &str,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO blobs(hash, media_type, bytes) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((hash, media_type, bytes))?;
    Ok(())
}

pub(crate) fn get(connection: &Connection, hash: &str) -> Result<Option<Image>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT media_type, bytes FROM blobs WHERE hash = ?1")?;
    let image = |row: &rusqlite::Row<'_>| Ok(Image { media_type: row.get(0)?, bytes: row.get(1)? });
    Ok(statement.query_row([hash], image).optional()?)
}

/// Forgets images that no message shows.
pub(crate) fn forget_unused(connection: &Connection) -> Result<(), StoreError> {
    let sql = "DELETE FROM blobs WHERE hash NOT IN (SELECT hash FROM message_blobs)";
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}
