//! `ModelSpec::validate`: a spec that backends may trust passes, and each way of breaking one is caught.

mod common;

use common::{Folder, llama_config, llama_gguf, llama_safetensors};
use perch_model::{
    Attention, Checkpoint, Ffn, Mixer, Mlp, ModelError, ModelSpec, Moe, RowSelect, Scoring, SpecOptions,
    Weight,
};

fn llama() -> (Folder, Checkpoint, ModelSpec) {
    let folder = Folder::new();
    let model = folder.open("llama.gguf", llama_gguf()).unwrap();
    let spec = model.spec(&SpecOptions::default()).unwrap();
    (folder, model, spec)
}

fn attention(spec: &mut ModelSpec) -> &mut Attention {
    match &mut spec.layers[1].mixer {
        Mixer::Attention(attention) => attention,
        _ => panic!("a Llama has attention"),
    }
}

fn mlp(spec: &mut ModelSpec) -> &mut Mlp {
    match &mut spec.layers[1].ffn {
        Ffn::Dense(mlp) => mlp,
        _ => panic!("this Llama is dense"),
    }
}

fn moe(spec: &mut ModelSpec) -> &mut Moe {
    let expert = mlp(spec).clone();
    let mut router = attention(spec).q.clone();
    (router.weight, router.rows) = (Weight::span(&router.weight.name, 0..4), 4);
    let (experts, scoring) = (vec![expert; 4], Scoring::Softmax);
    spec.layers[1].ffn = Ffn::Moe(Moe { router, experts, top_k: 2, scoring, scale: 1.0, shared: None });
    match &mut spec.layers[1].ffn {
        Ffn::Moe(moe) => moe,
        _ => unreachable!(),
    }
}

type Break = fn(&mut ModelSpec);

#[test]
fn each_broken_invariant_is_caught_and_named() {
    let cases: &[(&str, Break)] = &[
        ("without vocabulary", |s| s.vocab_size = 0),
        ("without vocabulary", |s| s.hidden_size = 0),
        ("needed", |s| s.vocab_size += 1),
        ("needed", |s| s.hidden_size /= 2),
        ("context", |s| s.context_length = 0),
        ("context", |s| s.context_length = usize::MAX),
        ("without layers", |s| s.layers.clear()),
        ("missing", |s| s.embedding.tokens.name = "nothing".into()),
        ("needed", |s| s.embedding.positions = Some(Weight::new("token_embd.weight"))),
        ("embedding's scale is NaN", |s| s.embedding.scale = f32::NAN),
        ("head's scale is inf", |s| s.head.scale = f32::INFINITY),
        ("head's softcap", |s| s.head.softcap = Some(0.0)),
        ("needed", |s| s.final_norm.weight.name = "blk.0.attn_q.weight".into()),
        ("epsilon", |s| s.final_norm.eps = -1.0),
        ("offset", |s| s.final_norm.offset = f32::NAN),
        ("needed", |s| s.final_norm.bias = Some(Weight::new("token_embd.weight"))),
        ("rotary table 0 is empty", |s| s.ropes[0].inv_freq.clear()),
        ("rotary table 0 is not finite", |s| s.ropes[0].inv_freq[0] = f32::NAN),
        ("rotary table 0 is not finite", |s| s.ropes[0].factor = f32::INFINITY),
        ("layer 0: the model cannot be: heads of width 16 with rotary table 0", |s| {
            s.ropes[0].inv_freq.push(0.0)
        }),
        ("rotary table 9", |s| attention(s).rope = Some(9)),
        ("0 heads", |s| attention(s).heads = 0),
        ("key and value heads", |s| attention(s).kv_heads = 0),
        ("key and value heads", |s| attention(s).kv_heads = 3),
        ("heads of width", |s| attention(s).head_dim = usize::MAX),
        ("place in the model", |s| attention(s).head_dim = 8),
        ("place in the model", |s| attention(s).q.rows += 1),
        ("place in the model", |s| attention(s).o.cols += 1),
        ("needed", |s| attention(s).q.weight.name = "blk.1.attn_k.weight".into()),
        ("needed", |s| attention(s).q.weight.rows = RowSelect::Span { start: 0, count: 32 }),
        ("no rows", |s| attention(s).q.weight.rows = RowSelect::Span { start: 1, count: 64 }),
        ("no part 0", |s| {
            attention(s).q_norm = {
                let mut norm = s.final_norm.clone();
                norm.weight.index = Some(0);
                Some(norm)
            }
        }),
        ("needed", |s| attention(s).q_norm = Some(s.final_norm.clone())),
        ("needed", |s| attention(s).k.bias = Some(Weight::new("output_norm.weight"))),
        ("needed", |s| attention(s).sinks = Some(Weight::new("output_norm.weight"))),
        ("window", |s| attention(s).window = Some(0)),
        ("attention scale", |s| attention(s).scale = f32::NAN),
        ("attention softcap", |s| attention(s).softcap = Some(-1.0)),
        ("residual scale", |s| s.layers[0].residual_scale = f32::NAN),
        ("needed", |s| {
            s.layers[0].post_ffn = {
                let mut norm = s.final_norm.clone();
                norm.weight = Weight::span("output_norm.weight", 0..63);
                Some(norm)
            }
        }),
        ("place in the model", |s| mlp(s).up.rows = 95),
        ("place in the model", |s| mlp(s).down.cols = 95),
        ("place in the model", |s| mlp(s).up.cols = 63),
        ("0 of 4 experts", |s| moe(s).top_k = 0),
        ("5 of 4 experts", |s| moe(s).top_k = 5),
        ("place in the model", |s| moe(s).router.rows = 5),
        ("experts' scale", |s| moe(s).scale = f32::NAN),
        ("missing", |s| moe(s).experts[3].down.weight.name = "nothing".into()),
        ("1 of 0 experts", |s| {
            let moe = moe(s);
            moe.experts.clear();
            moe.top_k = 1;
        }),
    ];
    let (_folder, model, spec) = llama();
    spec.validate(&model).unwrap();
    for (i, (expected, break_it)) in cases.iter().enumerate() {
        let mut broken = spec.clone();
        break_it(&mut broken);
        let error = broken.validate(&model).expect_err(expected);
        assert!(matches!(error, ModelError::InvalidFile { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(expected) && text.contains("llama.gguf"),
            "case {i}: {text:?}, not {expected:?}"
        );
    }
}

#[test]
fn what_stays_within_the_tensors_passes() {
    let (_folder, model, spec) = llama();
    let cases: &[Break] = &[
        |s| {
            moe(s);
        },
        |s| attention(s).window = Some(usize::MAX),
        |s| attention(s).sinks = Some(Weight::span("output_norm.weight", 60..64)),
        |s| attention(s).rope = None,
        |s| attention(s).k.bias = Some(Weight::span("output_norm.weight", 0..32)),
        |s| s.context_length = 1 << 20,
    ];
    for (i, change) in cases.iter().enumerate() {
        let mut changed = spec.clone();
        change(&mut changed);
        changed.validate(&model).unwrap_or_else(|error| panic!("case {i}: {error}"));
    }
}

#[test]
fn both_formats_of_a_model_give_the_same_spec_but_for_names_and_layout() {
    let (_folder, _, gguf) = llama();
    let folder = Folder::new();
    folder.write("config.json", llama_config().to_string());
    let model = folder.open("model.safetensors", llama_safetensors()).unwrap();
    let hf = model.spec(&SpecOptions::default()).unwrap();
    assert_eq!((hf.vocab_size, hf.hidden_size), (gguf.vocab_size, gguf.hidden_size));
    assert_eq!(hf.context_length, gguf.context_length);
    assert_eq!(hf.ropes[0].inv_freq, gguf.ropes[0].inv_freq);
    assert_eq!(hf.layers.len(), gguf.layers.len());
}

#[test]
fn a_tensor_that_no_backend_runs_makes_the_spec_unsupported() {
    let folder = Folder::new();
    folder.write("config.json", llama_config().to_string());
    let tensors: Vec<_> = common::llama_tensors()
        .into_iter()
        .map(|(_, name, shape)| {
            let bytes = vec![0; shape.iter().product()];
            (name, "F8_E4M3", shape, bytes)
        })
        .collect();
    let model = folder.open("model.safetensors", common::safetensors(&tensors)).unwrap();
    let error = model.spec(&SpecOptions::default()).unwrap_err();
    assert!(matches!(error, ModelError::Unsupported(_)) && error.to_string().contains("F8_E4M3"), "{error}");
}

#[test]
fn the_real_small_model_opens_in_both_formats() {
    let Some(models) = common::real_models() else { return };
    for name in ["stories260k", "stories260k/stories260k-f32.gguf", "stories260k/model.safetensors"] {
        let path = models.join(name);
        if !path.exists() {
            eprintln!("skipped: {name} is not among the real models");
            continue;
        }
        let model = Checkpoint::open(&path).unwrap();
        let spec = model.spec(&SpecOptions::default()).unwrap();
        assert_eq!((spec.layers.len(), spec.vocab_size, spec.context_length), (5, 512, 512), "{name}");
        assert_eq!(model.parameters(), 260_032, "{name}");
    }
}
