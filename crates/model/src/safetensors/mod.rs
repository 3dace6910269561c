//! Safetensors: one file, or shards with an index. Read here without the crate of that name, which trusts the length
//! and the number of entries of a header enough to allocate for them first.

mod header;
mod index;

pub(crate) use header::read_file;
pub(crate) use index::read_index;
