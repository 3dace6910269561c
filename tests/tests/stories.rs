//! A real model with a published answer: 260K parameters trained on TinyStories, whose greedy text the reference
//! program printed. Character for character, from each format, alone and in company.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use perch_tests::{Api, Perch, Server, skip, stories};
use serde_json::json;

/// Requests that run beside the one whose text is checked.
const COMPANY: usize = 7;

fn serve(model: &Path) -> Server {
    Perch::new().serve(["--model".as_ref(), model.as_os_str()])
}

/// The empty prompt is the beginning-of-sequence token alone, which the tokenizer adds.
fn greedy_text(api: &Api, model: &str) -> String {
    let body = json!({"model": model, "prompt": "", "temperature": 0, "max_tokens": 200});
    let answer = api.post("/v1/completions", &body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["choices"][0]["text"].as_str().expect("a text").to_string()
}

fn check_alone_and_in_company(folder: &Path, model: PathBuf) {
    let expected = fs::read_to_string(folder.join("expected_greedy.txt")).expect("the published text");
    let server = serve(&model);
    let api = server.api();
    let id = api.model_ids().remove(0);
    assert_eq!(greedy_text(&api, &id), expected, "alone");

    let (done, finished) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for n in 0..COMPANY {
            let (api, id, done, finished) = (&api, &id, &done, &finished);
            scope.spawn(move || {
                let prompt = format!("{}The cat number {n} said", "Once upon a time. ".repeat(n));
                let body = json!({"model": id, "prompt": prompt, "temperature": 1.0, "max_tokens": 300});
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(api.post("/v1/completions", &body).status, 200);
                    finished.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Whatever happens, the others are told to end.
        let guard = SetOnDrop(&done);
        api.until(Duration::from_secs(60), "all the others run", |status| {
            status["models"][0]["running"].as_u64() >= Some(COMPANY as u64)
        });
        for round in 0..3 {
            assert_eq!(greedy_text(&api, &id), expected, "in company, round {round}");
        }
        drop(guard);
    });
    assert!(finished.load(Ordering::Relaxed) >= COMPANY);
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_safetensors_give_the_published_text_alone_and_beside_seven_other_requests() {
    let folder = match stories() {
        Ok(folder) => folder,
        Err(reason) => skip!("{reason}"),
    };
    check_alone_and_in_company(&folder, folder.clone());
}

#[test]
fn the_gguf_gives_the_published_text_alone_and_beside_seven_other_requests() {
    let folder = match stories() {
        Ok(folder) => folder,
        Err(reason) => skip!("{reason}"),
    };
    check_alone_and_in_company(&folder, folder.join("stories260k-f32.gguf"));
}
