//! Thousands of damaged files, each opened as a user would: none panics, hangs or takes more memory than is allowed.
//!
//! In a binary of its own, whose tests take turns, because its allocator counts every byte of the process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Folder, Random, llama_config, llama_gguf, llama_safetensors};
use perch_model::{Checkpoint, SpecOptions, TensorIndex, Weight};

/// What a damaged file may cost, beyond what was allocated before it was opened.
const MAX_BYTES: usize = 64 << 20;
const MAX_TIME: Duration = Duration::from_secs(1);

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes on to the system's allocator as it came; only sizes are noted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new exist side by side while it is moved.
        grow(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held by the test that runs.
static TURN: Mutex<()> = Mutex::new(());

/// Damages `bytes` in one of the ways that files get damaged, or are made to do damage. Most of the blows fall on the
/// first `header` bytes, where the claims are.
fn damage(bytes: &mut Vec<u8>, header: usize, random: &mut Random) {
    let place = |bytes: &[u8], random: &mut Random| {
        let end = if random.below(8) == 0 { bytes.len() } else { header.min(bytes.len()) };
        random.below(end.max(1))
    };
    let huge = [
        0,
        1,
        u64::MAX,
        u64::MAX - 7,
        1 << 63,
        1 << 62,
        1 << 48,
        1 << 32,
        (1 << 32) - 1,
        1 << 31,
        1 << 21,
        65_536,
        bytes.len() as u64,
        bytes.len() as u64 + 1,
    ];
    match random.below(7) {
        0 => {
            let len = place(bytes, random);
            bytes.truncate(len);
        }
        1 | 2 => {
            for _ in 0..1 + random.below(4) {
                let at = place(bytes, random);
                bytes[at] ^= 1 << random.below(8);
            }
        }
        3 | 4 => {
            let at = place(bytes, random);
            let value = huge[random.below(huge.len())].to_le_bytes();
            let width = [1, 2, 4, 8][random.below(4)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&value[..width]);
        }
        5 => {
            let (at, count) = (place(bytes, random), 1 + random.below(16));
            bytes.splice(at..at, std::iter::repeat_n(random.next() as u8, count));
        }
        _ => {
            let at = place(bytes, random);
            let end = (at + 1 + random.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
    }
}

/// Opens a model and uses everything of it. Errors are fine; what is measured is what it takes to get there.
fn use_all(path: &Path) -> bool {
    let Ok(model) = Checkpoint::open(path) else { return false };
    let names: Vec<String> = model.names().map(str::to_owned).collect();
    for name in &names {
        let _ = model.load(&Weight::new(name.as_str()), None);
        let _ = model.values(name);
    }
    let _ = (model.parameters(), model.weights_bytes(), model.quantization(), model.context_length());
    if let Some(metadata) = model.gguf_metadata() {
        for key in metadata.keys() {
            let _ =
                (metadata.get_str(key), metadata.get_f32(key), metadata.get_u64(key), metadata.get_bool(key));
            let _ = (metadata.get_f32s(key), metadata.get_i64s(key), metadata.get_u64s(key));
            let _ = metadata.get_strs(key).map(Iterator::count);
        }
    }
    model.spec(&SpecOptions::default()).is_ok()
}

/// Writes and uses `count` damaged versions of the file `name` of `folder`. Returns how many of them still made a spec.
fn mutate(folder: &Folder, name: &str, header: usize, opened: &str, count: usize) -> usize {
    let original = std::fs::read(folder.path().join(name)).unwrap();
    let opened = folder.path().join(opened);
    let mut survivors = 0;
    for seed in 0..count as u64 {
        let mut random = Random(seed);
        let mut bytes = original.clone();
        for _ in 0..1 + random.below(3) {
            if !bytes.is_empty() {
                damage(&mut bytes, header, &mut random);
            }
        }
        folder.write(name, &bytes);
        drop(bytes);
        let (start, before) = (Instant::now(), NOW.load(Ordering::Relaxed));
        PEAK.store(before, Ordering::Relaxed);
        let outcome = std::panic::catch_unwind(|| use_all(&opened));
        let (time, memory) = (start.elapsed(), PEAK.load(Ordering::Relaxed) - before);
        assert!(time < MAX_TIME, "{name}, seed {seed}: took {time:?}");
        assert!(memory < MAX_BYTES, "{name}, seed {seed}: took {memory} bytes");
        survivors += usize::from(outcome.unwrap_or_else(|_| panic!("{name}, seed {seed}: panicked")));
    }
    folder.write(name, original);
    survivors
}

/// Length of a GGUF file's header, near enough: where its last tensor's name stands.
fn gguf_header(bytes: &[u8]) -> usize {
    let name = b"blk.1.ffn_down.weight";
    bytes.windows(name.len()).rposition(|window| window == name).unwrap_or(1 << 14) + 64
}

#[test]
fn no_damaged_file_panics_hangs_or_takes_memory_it_has_no_right_to() {
    let _turn = TURN.lock();
    let folder = Folder::new();
    let gguf = llama_gguf();
    folder.write("llama.gguf", &gguf);
    let survivors = mutate(&folder, "llama.gguf", gguf_header(&gguf), "llama.gguf", 4000);
    eprintln!("gguf: {survivors} of 4000 still make a spec");
    assert!(survivors > 100, "damage in names and weights goes unseen; if all fail, nothing is tested");

    let folder = Folder::new();
    let file = llama_safetensors();
    let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    folder.write("model.safetensors", &file);
    folder.write("config.json", llama_config().to_string());
    let shards = r#"{"weight_map":{"model.norm.weight":"model.safetensors","x":"model.safetensors"}}"#;
    let survivors = mutate(&folder, "model.safetensors", header, "", 3000);
    eprintln!("safetensors: {survivors} of 3000 still make a spec");
    assert!(survivors > 50);
    let survivors = mutate(&folder, "config.json", usize::MAX, "", 2000);
    eprintln!("config.json: {survivors} of 2000 still make a spec");
    assert!(survivors > 20);
    folder.write("model.safetensors.index.json", shards);
    mutate(&folder, "model.safetensors.index.json", usize::MAX, "", 500);

    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    for name in ["mlx", "mxfp4"] {
        let folder = Folder::new();
        for file in ["config.json", "model.safetensors"] {
            folder.write(file, std::fs::read(goldens.join(name).join(file)).unwrap());
        }
        mutate(&folder, "model.safetensors", 1024, "", 1000);
        mutate(&folder, "config.json", usize::MAX, "", 500);
    }

    let Some(models) = common::real_models().filter(|models| models.join("stories260k").is_dir()) else {
        return;
    };
    let folder = Folder::new();
    for file in std::fs::read_dir(models.join("stories260k")).unwrap() {
        let file = file.unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        folder.write(&file.file_name().to_string_lossy(), bytes);
    }
    let header = gguf_header(&std::fs::read(folder.path().join("stories260k-f32.gguf")).unwrap());
    mutate(&folder, "stories260k-f32.gguf", header, "stories260k-f32.gguf", 60);
    mutate(&folder, "model.safetensors", 4096, "", 60);
}

/// The largest legal claims: every count at its limit, the file as small as that allows.
#[test]
fn files_of_nothing_but_entries_stay_within_the_memory_allowed() {
    let _turn = TURN.lock();
    let measure = |path: &Path| {
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let opened = Checkpoint::open(path).is_ok();
        let (time, memory) = (start.elapsed(), PEAK.load(Ordering::Relaxed) - before);
        eprintln!("{}: {opened}, {time:?}, {memory} bytes", path.display());
        assert!(time < MAX_TIME && memory < MAX_BYTES, "{}: {time:?}, {memory} bytes", path.display());
    };
    let folder = Folder::new();
    folder.write("config.json", "{}");

    let count = 1u64 << 17;
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend_from_slice(&count.to_le_bytes());
    file.extend_from_slice(&0u64.to_le_bytes());
    for i in 0..count {
        let name = format!("{i:064}");
        file.extend_from_slice(&(name.len() as u64).to_le_bytes());
        file.extend_from_slice(name.as_bytes());
        file.extend_from_slice(&1u32.to_le_bytes());
        file.extend_from_slice(&1u64.to_le_bytes());
        file.extend_from_slice(&0u32.to_le_bytes());
        file.extend_from_slice(&(i * 32).to_le_bytes());
    }
    file.resize(file.len() + 32 * count as usize + 32, 0);
    let path = folder.write("tensors.gguf", &file);
    drop(file);
    measure(&path);

    let entries: Vec<String> = (0..130_000)
        .map(|i| format!(r#""{i:055}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1))
        .collect();
    let file = common::with_header(&format!("{{{}}}", entries.join(",")), &vec![0; 130_000]);
    drop(entries);
    let path = folder.write("tensors.safetensors", &file);
    drop(file);
    measure(&path);

    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend_from_slice(&0u64.to_le_bytes());
    file.extend_from_slice(&16_384u64.to_le_bytes());
    for i in 0..16_384 {
        let key = format!("{i:01024}");
        file.extend_from_slice(&(key.len() as u64).to_le_bytes());
        file.extend_from_slice(key.as_bytes());
        file.extend_from_slice(&[0, 0, 0, 0, 1]);
    }
    let path = folder.write("keys.gguf", &file);
    drop(file);
    measure(&path);

    for config in ["{\"a\":0},", "[],", "{\"a\":{\"a\":{\"a\":0}}},", "0,"] {
        let body = config.repeat((4 << 20) / config.len() - 1);
        folder.write("config.json", format!("{{\"x\":[{body}0]}}"));
        let text = config.repeat(65_530 / config.matches(['{', '[', '0']).count());
        measure(&folder.path().join("tensors.safetensors"));
        folder.write("config.json", format!("{{\"x\":[{text}0]}}"));
        folder.write("one.safetensors", common::with_header("{}", &[]));
        measure(&folder.path().join("one.safetensors"));
    }
}
