//! Real files in temporary folders; Python's readers of Parquet as judges where they are there.

mod damage;
mod export;
mod ledger;
mod recorder;
mod support;
