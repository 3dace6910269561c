//! `perch load` and `perch unload`: models into and out of the memory of a running server.

use anyhow::Result;
use perch_protocol::{
    InUse, KeepAlive, LoadModelRequest, ModelStatus, PinModelRequest, PinnedModel, UnloadModelRequest,
    UnloadedModel,
};
use perch_server::Config;

use crate::args::{Load, Unload};
use crate::client::Client;
use crate::progress::Progress;
use crate::text;

pub(crate) async fn load(args: &Load, config: &Config) -> Result<()> {
    let client = Client::of(&args.server, config)?;
    if args.pin {
        let pin = PinModelRequest { model: args.model.clone() };
        client.ask::<PinnedModel>("/api/v1/pin-model", &pin).await?;
    }
    let request = LoadModelRequest {
        model: args.model.clone(),
        keep_alive: args.keep_alive.clone().map(KeepAlive::Text),
    };
    let progress = Progress::start(format!("Loading {}", args.model));
    let status: ModelStatus = client.ask("/api/v1/load-model", &request).await?;
    drop(progress);
    let pinned = if status.pinned { ", pinned" } else { "" };
    let (weights, kv) = (text::bytes(status.weight_bytes), text::bytes(status.kv_budget_bytes));
    println!("{} is loaded: {weights} of weights, up to {kv} of KV cache{pinned}", status.id);
    Ok(())
}

pub(crate) async fn unload(args: &Unload, config: &Config) -> Result<()> {
    let client = Client::of(&args.server, config)?;
    if args.unpin {
        let unpin = PinModelRequest { model: args.model.clone() };
        client.ask::<PinnedModel>("/api/v1/unpin-model", &unpin).await?;
    }
    let in_use = match (args.wait, args.force) {
        (true, _) => InUse::Wait,
        (_, true) => InUse::Cancel,
        _ => InUse::Refuse,
    };
    let request = UnloadModelRequest { model: args.model.clone(), in_use };
    let UnloadedModel { model, unloaded } = client.ask("/api/v1/unload-model", &request).await?;
    match unloaded {
        true => println!("{model} is unloaded"),
        false => println!("{model} was not loaded"),
    }
    Ok(())
}
