//! The store on real files: what is kept, found, moved, and what damage does to it.

mod damage;
mod search;
mod speed;
mod store;
mod support;
mod transfer;
