//! What storing, importing, deleting and cleaning up do to real folders, laid out as the programs themselves lay them out.

mod cached;
mod cleaning;
mod home;
mod importing;
mod plain;
mod property;
