//! Mixture of experts: every token goes to the experts that the router likes best.
//!
//! Routing is decided on the host, token by token, with ties going to the lower expert; a token's experts are summed
//! from its best to its worst, so that the result does not depend on the tokens beside it.

use std::ops::Range;

use candle_core::{Result, Tensor};
use perch_model::Scoring;

use crate::cpu::matmul::{Product, matmul_grouped};
use crate::cpu::{Cpu, elementwise};
use crate::device::{Device, read};
use crate::linear::Linear;
use crate::mlp::Mlp;

/// A loaded mixture.
#[derive(Debug)]
pub(crate) struct Moe {
    /// `[experts, hidden]`.
    pub(crate) router: Linear,
    /// All experts; they have the same shape and activation.
    pub(crate) experts: Vec<Mlp>,
    /// Experts used per token; at least 1 and at most all.
    pub(crate) top_k: usize,
    /// How router logits become weights.
    pub(crate) scoring: Scoring,
    /// Multiplies the weighted sum.
    pub(crate) scale: f32,
    /// An expert that every token uses.
    pub(crate) shared: Option<Mlp>,
}

/// Which tokens go to which expert.
struct Routes {
    /// Tokens, grouped by expert; `top_k` times as many as there are tokens.
    tokens: Vec<u32>,
    /// Where each expert's group begins; one more than there are experts.
    starts: Vec<usize>,
    /// For each token, from its best expert to its worst: place in `tokens`, and weight. `[n, top_k]`.
    picks: Vec<(usize, f32)>,
}

impl Moe {
    /// `[n, hidden]` to `[n, hidden]`.
    pub(crate) fn forward(&self, device: &Device, x: &Tensor) -> Result<Tensor> {
        let logits = self.router.forward(device, x)?.flatten_all()?.to_vec1::<f32>()?;
        let routes = self.route(&logits);
        let mixed = match device {
            Device::Cpu(cpu) => device.tensor(self.on_cpu(cpu, x, &routes)?, x.dim(0)?)?,
            Device::Candle(_) => self.on_candle(device, x, &routes)?,
        };
        match &self.shared {
            Some(shared) => mixed + shared.forward(device, x)?,
            None => Ok(mixed),
        }
    }

    /// Picks experts from `[n, experts]` router logits.
    fn route(&self, logits: &[f32]) -> Routes {
        let experts = self.experts.len();
        let mut chosen = Vec::with_capacity(logits.len() / experts * self.top_k);
        for logits in logits.chunks_exact(experts) {
            let mut order: Vec<usize> = (0..experts).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
            let largest = logits[order[0]];
            let weight = |expert: usize| (logits[expert] - largest).exp();
            let total: f32 = match self.scoring {
                Scoring::Softmax => order.iter().map(|e| weight(*e)).sum(),
                _ => order[..self.top_k].iter().map(|e| weight(*e)).sum(),
            };
            chosen.extend(order[..self.top_k].iter().map(|e| (*e, weight(*e) / total * self.scale)));
        }
        let mut starts = vec![0; experts + 1];
        chosen.iter().for_each(|(expert, _)| starts[expert + 1] += 1);
        (0..experts).for_each(|e| starts[e + 1] += starts[e]);
        let mut next = starts.clone();
        let mut tokens = vec![0; chosen.len()];
        let mut picks = Vec::with_capacity(chosen.len());
        for (i, (expert, weight)) in chosen.into_iter().enumerate() {
            let place = next[expert];
            next[expert] += 1;
            tokens[place] = (i / self.top_k) as u32;
            picks.push((place, weight));
        }
        Routes { tokens, starts, picks }
    }

    /// All experts in two products: one region for gate and up, one for down.
    fn on_cpu(&self, cpu: &Cpu, x: &Tensor, routes: &Routes) -> Result<Vec<f32>> {
        let (n, hidden) = x.dims2()?;
        let places = routes.tokens.len();
        let ups: Vec<&Linear> = self.experts.iter().map(|expert| &expert.up).collect();
        let gates: Vec<&Linear> = self.experts.iter().filter_map(|expert| expert.gate.as_ref()).collect();
        let downs: Vec<&Linear> = self.experts.iter().map(|expert| &expert.down).collect();
        let mut up = vec![0.0; places * ups[0].rows()];
        let mut gate = vec![0.0; if gates.is_empty() { 0 } else { up.len() }];
        read([x], |[x]| -> Result<()> {
            let mut products = routes.products(&ups, &routes.tokens, &mut up)?;
            if !gates.is_empty() {
                products.extend(routes.products(&gates, &routes.tokens, &mut gate)?);
            }
            matmul_grouped(&cpu.pool, cpu.pool.isa(), x, n, &mut products);
            Ok(())
        })??;
        routes.add_biases(&ups, &mut up);
        routes.add_biases(&gates, &mut gate);
        let activation = self.experts[0].activation;
        elementwise::activate(cpu, activation, (!gate.is_empty()).then_some(&gate), &mut up);
        let order: Vec<u32> = (0..places as u32).collect();
        let mut down = vec![0.0; places * hidden];
        let mut products = routes.products(&downs, &order, &mut down)?;
        matmul_grouped(&cpu.pool, cpu.pool.isa(), &up, places, &mut products);
        routes.add_biases(&downs, &mut down);
        let mut out = vec![0.0; n * hidden];
        cpu.pool.run_chunks(&mut out, hidden, |token, out| {
            for (place, weight) in &routes.picks[token * self.top_k..][..self.top_k] {
                let row = &down[place * hidden..][..hidden];
                out.iter_mut().zip(row).for_each(|(out, x)| *out += weight * x);
            }
        });
        Ok(out)
    }

    /// One expert after another.
    fn on_candle(&self, device: &Device, x: &Tensor, routes: &Routes) -> Result<Tensor> {
        let mut weights = vec![0.0; routes.picks.len()];
        routes.picks.iter().for_each(|(place, weight)| weights[*place] = *weight);
        let mut out = x.zeros_like()?;
        for (expert, range) in self.experts.iter().zip(routes.groups()) {
            if range.is_empty() {
                continue;
            }
            let tokens = &routes.tokens[range.clone()];
            let y = expert.forward(device, &device.select(x, tokens)?)?;
            let y = y.broadcast_mul(&Tensor::new(&weights[range], x.device())?.unsqueeze(1)?)?;
            out = out.index_add(&Tensor::new(tokens, x.device())?, &y, 0)?;
        }
        Ok(out)
    }
}

impl Routes {
    /// Each expert's places.
    fn groups(&self) -> impl Iterator<Item = Range<usize>> {
        self.starts.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// For each expert that has tokens, its rows of the input (`rows`, by place) times `layers[expert]`, to its places
    /// in `out`.
    fn products<'a>(
        &self,
        layers: &[&'a Linear],
        rows: &'a [u32],
        mut out: &'a mut [f32],
    ) -> Result<Vec<Product<'a>>> {
        let mut products = Vec::new();
        for (layer, range) in layers.iter().zip(self.groups()) {
            let (mine, rest) = std::mem::take(&mut out).split_at_mut(range.len() * layer.rows());
            out = rest;
            if !range.is_empty() {
                products.push(Product { weight: layer.matrix()?, rows: Some(&rows[range]), out: mine });
            }
        }
        Ok(products)
    }

    /// Adds each expert's bias to its places.
    fn add_biases(&self, layers: &[&Linear], out: &mut [f32]) {
        for (layer, range) in layers.iter().zip(self.groups()) {
            let Some(bias) = layer.bias() else { continue };
            for row in out[range.start * layer.rows()..range.end * layer.rows()].chunks_exact_mut(bias.len())
            {
                row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
            }
        }
    }
}
