//! What a model is foretold to take, against what its weights take once they are loaded.

mod support;

use perch_model::{Checkpoint, Ffn, Footprint, Linear, Mixer, ModelSpec, Norm, Quantize, Weight};
use support::Golden;

/// Loads every weight as a backend does, and counts.
struct Loaded<'a> {
    checkpoint: &'a Checkpoint,
    bytes: Footprint,
}

impl Loaded<'_> {
    fn matrix(&mut self, weight: &Weight, quantize: Option<Quantize>) {
        let tensor = self.checkpoint.load(weight, quantize).unwrap();
        let bytes = tensor.bytes().len() as u64;
        match tensor.is_owned() {
            true => self.bytes.owned += bytes,
            false => self.bytes.mapped += bytes,
        }
    }

    fn vector(&mut self, weight: &Weight) {
        let tensor = self.checkpoint.load(weight, None).unwrap();
        self.bytes.owned += 4 * (tensor.rows() * tensor.cols()) as u64;
    }

    fn norm(&mut self, norm: &Norm) {
        self.vector(&norm.weight);
        norm.bias.iter().for_each(|bias| self.vector(bias));
    }

    fn linear(&mut self, linear: &Linear, quantize: Option<Quantize>) {
        self.matrix(&linear.weight, quantize);
        linear.bias.iter().for_each(|bias| self.vector(bias));
    }
}

fn load(checkpoint: &Checkpoint, spec: &ModelSpec, quantize: Option<Quantize>) -> Footprint {
    let mut loaded = Loaded { checkpoint, bytes: Footprint::default() };
    let ends = quantize.map(Quantize::for_embedding);
    loaded.matrix(&spec.embedding.tokens, ends);
    match spec.head.linear.weight == spec.embedding.tokens {
        true => spec.head.linear.bias.iter().for_each(|bias| loaded.vector(bias)),
        false => loaded.linear(&spec.head.linear, ends),
    }
    spec.embedding.positions.iter().for_each(|table| loaded.matrix(table, None));
    loaded.norm(&spec.final_norm);
    for (index, layer) in spec.layers.iter().enumerate() {
        let sensitive = quantize.map(|q| q.for_value_or_down(index, spec.layers.len()));
        for norm in [&layer.pre_mixer, &layer.post_mixer, &layer.pre_ffn, &layer.post_ffn] {
            norm.iter().for_each(|norm| loaded.norm(norm));
        }
        let Mixer::Attention(attention) = &layer.mixer else { panic!("not attention") };
        loaded.linear(&attention.q, quantize);
        loaded.linear(&attention.k, quantize);
        loaded.linear(&attention.v, sensitive);
        loaded.linear(&attention.o, quantize);
        attention.q_norm.iter().chain(&attention.k_norm).for_each(|norm| loaded.norm(norm));
        attention.sinks.iter().for_each(|sinks| loaded.vector(sinks));
        let mlps = match &layer.ffn {
            Ffn::Dense(mlp) => vec![mlp],
            Ffn::Moe(moe) => {
                loaded.linear(&moe.router, None);
                moe.experts.iter().chain(&moe.shared).collect()
            }
            _ => panic!("an unknown kind of feed-forward part"),
        };
        for mlp in mlps {
            mlp.gate.iter().for_each(|gate| loaded.linear(gate, quantize));
            loaded.linear(&mlp.up, quantize);
            loaded.linear(&mlp.down, sensitive);
        }
    }
    loaded.bytes
}

#[test]
fn a_footprint_is_what_the_loaded_weights_take_for_every_architecture_and_rounding() {
    let roundings = [None, Some(Quantize::Q8_0), Some(Quantize::Q4_0), Some(Quantize::Q4K)];
    for golden in Golden::all() {
        let files = [golden.folder.clone(), golden.folder.join("model.gguf")];
        for file in files.iter().filter(|file| file.exists()) {
            let checkpoint = Checkpoint::open(file).unwrap();
            let spec = checkpoint.spec(&golden.options()).unwrap();
            for quantize in roundings {
                let (foretold, taken) =
                    (checkpoint.footprint(&spec, quantize), load(&checkpoint, &spec, quantize));
                assert_eq!(foretold, taken, "{} with {quantize:?}", golden.name());
                assert!(foretold.total() > 0);
            }
        }
    }
}
