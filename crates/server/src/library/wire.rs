//! The library's nouns as they go over the wire, and back.

use std::path::Path;
use std::time::SystemTime;

use perch_hub as hub;
use perch_protocol as wire;

use crate::clock::millis;

pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn store(kind: hub::StoreKind) -> wire::Store {
    match kind {
        hub::StoreKind::Perch => wire::Store::Perch,
        hub::StoreKind::ModelsDir => wire::Store::ModelsDir,
        hub::StoreKind::HuggingFace => wire::Store::HuggingFace,
        hub::StoreKind::LmStudio => wire::Store::LmStudio,
        hub::StoreKind::Ollama => wire::Store::Ollama,
        hub::StoreKind::Elsewhere => wire::Store::Elsewhere,
    }
}

pub(super) fn format(format: hub::Format) -> wire::ModelFormat {
    match format {
        hub::Format::Gguf => wire::ModelFormat::Gguf,
        hub::Format::Safetensors => wire::ModelFormat::Safetensors,
        hub::Format::Mlx => wire::ModelFormat::Mlx,
    }
}

pub(super) fn verification(verification: hub::Verification) -> wire::Verification {
    match verification {
        hub::Verification::Unverified => wire::Verification::Unverified,
        hub::Verification::Verified => wire::Verification::Verified,
        hub::Verification::Damaged => wire::Verification::Damaged,
    }
}

pub(super) fn time(time: Option<SystemTime>) -> Option<u64> {
    time.map(millis)
}

pub(super) fn removal(removal: hub::Removal, dry_run: bool) -> wire::Removal {
    wire::Removal {
        freed_bytes: removal.freed_bytes(),
        id: removal.id,
        dry_run,
        items: removal.items.into_iter().map(item).collect(),
        kept: removal.kept.into_iter().map(kept).collect(),
    }
}

pub(super) fn cleanup(removal: hub::Removal, dry_run: bool) -> wire::CleanupReport {
    let removal = self::removal(removal, dry_run);
    wire::CleanupReport {
        dry_run,
        items: removal.items,
        kept: removal.kept,
        freed_bytes: removal.freed_bytes,
    }
}

fn item(item: hub::Item) -> wire::StorageItem {
    wire::StorageItem {
        path: text(&item.path),
        kind: kind(item.kind),
        bytes: item.bytes,
        reason: item.reason,
        removed: item.removed,
        error: item.error,
    }
}

fn kept(kept: hub::Kept) -> wire::KeptItem {
    wire::KeptItem { path: text(&kept.path), reason: kept.reason }
}

/// Both spellings of every kind.
const KINDS: [(hub::ItemKind, wire::StorageItemKind); 9] = [
    (hub::ItemKind::File, wire::StorageItemKind::File),
    (hub::ItemKind::Link, wire::StorageItemKind::Link),
    (hub::ItemKind::Folder, wire::StorageItemKind::Folder),
    (hub::ItemKind::Entry, wire::StorageItemKind::Entry),
    (hub::ItemKind::OrphanedBlob, wire::StorageItemKind::OrphanedBlob),
    (hub::ItemKind::PartialDownload, wire::StorageItemKind::PartialDownload),
    (hub::ItemKind::BrokenLink, wire::StorageItemKind::BrokenLink),
    (hub::ItemKind::UnreferencedSnapshot, wire::StorageItemKind::UnreferencedSnapshot),
    (hub::ItemKind::AbandonedImport, wire::StorageItemKind::AbandonedImport),
];

fn kind(kind: hub::ItemKind) -> wire::StorageItemKind {
    KINDS.iter().find(|(own, _)| *own == kind).map_or(wire::StorageItemKind::File, |(_, wire)| *wire)
}

pub(super) fn item_kind(kind: wire::StorageItemKind) -> hub::ItemKind {
    KINDS.iter().find(|(_, wire)| *wire == kind).map_or(hub::ItemKind::File, |(own, _)| *own)
}

pub(super) fn mode(mode: wire::ImportMode) -> hub::ImportMode {
    match mode {
        wire::ImportMode::Link => hub::ImportMode::Link,
        wire::ImportMode::Reference => hub::ImportMode::Reference,
        wire::ImportMode::Copy => hub::ImportMode::Copy,
    }
}

pub(super) fn profile(profile: wire::Profile) -> hub::Profile {
    match profile {
        wire::Profile::Fast => hub::Profile::Fast,
        wire::Profile::Balanced => hub::Profile::Balanced,
        wire::Profile::Quality => hub::Profile::Quality,
    }
}

pub(super) fn import_report(report: hub::ImportReport, request: &wire::ImportRequest) -> wire::ImportReport {
    let imported = |imported: hub::Imported| wire::ImportedModel {
        name: imported.found.name,
        id: imported.id,
        from: text(&imported.found.from),
        path: text(&imported.path),
        mode: match imported.mode {
            hub::ImportMode::Link => wire::ImportMode::Link,
            hub::ImportMode::Reference => wire::ImportMode::Reference,
            hub::ImportMode::Copy => wire::ImportMode::Copy,
        },
        size_bytes: imported.found.size_bytes,
        profile: request.profile.filter(|_| imported.settings.is_some()),
        notes: imported.found.notes,
    };
    let settings_changed = !request.dry_run && report.imported.iter().any(|one| one.settings.is_some());
    let skipped = report.skipped.into_iter().map(|(found, reason)| wire::SkippedImport {
        name: found.name,
        from: text(&found.from),
        reason,
    });
    wire::ImportReport {
        dry_run: request.dry_run,
        skipped: skipped.collect(),
        imported: report.imported.into_iter().map(imported).collect(),
        settings_changed,
    }
}

pub(super) fn usage(usage: hub::Usage) -> wire::StorageStats {
    let place = |place: hub::StoreUsage| wire::StoreUsage {
        store: store(place.kind),
        path: text(&place.root),
        models: place.models,
        bytes: place.bytes,
        reclaimable_bytes: place.reclaimable_bytes,
        free_bytes: place.free_bytes,
        disk_bytes: place.disk_bytes,
    };
    let model = |model: hub::ModelUsage| wire::ModelUsage {
        id: model.id,
        store: store(model.kind),
        bytes: model.bytes,
        freed_bytes: model.freed_bytes,
    };
    wire::StorageStats {
        total_bytes: usage.total_bytes,
        shared_bytes: usage.shared_bytes,
        reclaimable_bytes: usage.reclaimable_bytes,
        free_bytes: usage.free_bytes,
        stores: usage.stores.into_iter().map(place).collect(),
        models: usage.models.into_iter().map(model).collect(),
    }
}
