//! Embeds what Tauri needs to know: tauri.conf.json and the icons.

fn main() {
    tauri_build::build();
}
