"""Trains the guide. One command, CPU only, fixed seed:

    python train.py --out build                        110 minutes on two cores
    python train.py --out build --minutes 5            a quick look
    python train.py --out build --threads 1            beside other work
    python train.py --out build --go-on --minutes 30 --seed 2   more of it

Writes `build/hf/` (safetensors f32, tokenizer, config) and `build/log.csv`. `export.py` makes the other forms.

What is saved is a running mean of the weights, every few minutes and when the program is told to end (SIGINT, SIGTERM),
so that a run that is cut short still leaves a model that can be used. The learning rate follows the clock: a run of
`--minutes` ends at its lowest rate. A run of `--steps` follows the steps instead, and can be repeated exactly with the
same number of threads.
"""

import argparse
import csv
import json
import math
import random
import signal
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import data
import tokenizer as tokenizer_file
from model import Config, Guide

SEED = 20
TOKENS_IN_BATCH = 4096
PEAK, FLOOR, WARM_UP = 2.0e-3, 2e-5, 200
WARM_UP_AGAIN = 60  # where the weights are not random
MEAN_OVER = 150  # steps that the saved mean looks back on
CHECK_EVERY = 300  # seconds


def encode(tokenizer: Tokenizer, samples: list[dict]) -> list[tuple[list[int], list[int]]]:
    """Token ids of each sample, and for each id how much it counts that the guide learns to write it."""
    pieces = [data.render(**s) for s in samples]
    codes = iter(tokenizer.encode_batch_fast([text for sample in pieces for text, _ in sample]))
    out = []
    for sample in pieces:
        ids, learn = [], []
        for _, on in sample:
            piece = next(codes).ids
            ids += piece
            learn += [on] * len(piece)
        out.append((ids, learn))
    return out


def tensors(group, pad: int):
    """Samples side by side → ids [B, T], targets [B, T] (-100 where nothing is learnt), how much each counts [B, T]."""
    width = max(len(ids) for ids, _ in group)
    x = torch.full((len(group), width - 1), pad)
    y = torch.full((len(group), width - 1), -100)
    counts = torch.zeros((len(group), width - 1))
    for row, (ids, learn) in enumerate(group):
        t = torch.tensor(ids)
        x[row, : len(ids) - 1] = t[:-1]
        counts[row, : len(ids) - 1] = torch.tensor(learn[1:], dtype=torch.float32)
        y[row, : len(ids) - 1] = torch.where(counts[row, : len(ids) - 1] > 0, t[1:], -100)
    return x, y, counts


def batches(tokenizer, seed: int, context: int):
    """Endless batches. Samples of like length stand side by side, one in a row: no attention across samples, and
    about one token in twenty is padding."""
    source = data.stream(seed)
    pad = tokenizer.token_to_id("<|endoftext|>")
    order = random.Random(seed)
    while True:
        pool = [s for s in encode(tokenizer, [next(source) for _ in range(4096)]) if len(s[0]) <= context]
        pool.sort(key=lambda s: len(s[0]))
        groups, group = [], []
        for s in pool:
            if group and len(s[0]) * (len(group) + 1) > TOKENS_IN_BATCH:
                groups.append(group)
                group = []
            group.append(s)
        groups.append(group)
        order.shuffle(groups)
        for group in groups:
            yield tensors(group, pad)


@torch.no_grad()
def word_for_word(model, tokenizer) -> float:
    """The share of held-out questions whose greedy answer is the fact's own, word for word. One pass over the right
    answers: where every one of their tokens is the likeliest, greedy decoding writes them."""
    asked = [dict(messages=[data.user(q), data.says(f.answer)]) for f in data.FACTS for q in f.held_out]
    rows = sorted(encode(tokenizer, asked), key=lambda s: len(s[0]))
    right = 0
    for at in range(0, len(rows), 64):
        x, y, _ = tensors(rows[at : at + 64], tokenizer.token_to_id("<|endoftext|>"))
        with torch.autocast("cpu", torch.bfloat16):
            likeliest = model.logits(model(x)).argmax(-1)
        right += ((likeliest == y) | (y == -100)).all(-1).sum().item()
    return right / len(rows)


def weights(learn):
    """How much each token counts: 8 for the first of an answer, soon 1. The first words choose what the answer says, and the
    rest follows; without this the model learns the answers long before it learns which question each belongs to."""
    at, run = torch.zeros(learn.shape), torch.zeros(learn.shape[0])
    for t in range(learn.shape[1]):
        run = (run + 1) * learn[:, t]
        at[:, t] = run
    return 1 + 7 * torch.exp(-(at - 1) / 3)


def make_optimisers(model) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, whose steps it scales to those of AdamW; AdamW for the embedding and the norms. After 200
    steps the loss is where AdamW alone has it after 240, for a seventh more time in each."""
    inside = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed_tokens" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() != 2 or "embed_tokens" in name]
    return [torch.optim.Muon(inside, lr=PEAK, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=PEAK, betas=(0.9, 0.98), weight_decay=0.0, fused=True)]


def save(model, tokenizer, folder: Path):
    """Writes the checkpoint; what was there stays whole until the new one is."""
    end = tokenizer.token_to_id("<|im_end|>")
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / "model.safetensors.new"
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, new, metadata={"format": "pt"})
    new.rename(folder / "model.safetensors")
    config = model.config.to_hf(tokenizer.token_to_id("<|endoftext|>"), end)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generation = {"eos_token_id": end, "do_sample": True, "temperature": 0.3, "top_p": 0.9}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--minutes", type=float, default=110)
    parser.add_argument("--steps", type=int, help="so many steps, however long they take")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--go-on", action="store_true", help="begin with the weights that an earlier run left in --out")
    parser.add_argument("--seed", type=int, help="of the data; another one for each run that goes on")
    parser.add_argument("--peak", type=float, default=PEAK, help="the highest learning rate; less for --go-on")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    folder = args.out / "hf"
    # Weights go with the tokenizer that they were made with; one made from changed facts would have other tokens.
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json")) if args.go_on else tokenizer_file.save(folder)
    model = Guide(Config(vocab_size=tokenizer_file.VOCAB))
    if args.go_on:
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    mean = Guide(model.config).requires_grad_(False)
    mean.load_state_dict(model.state_dict())
    assert tokenizer.get_vocab_size() <= tokenizer_file.VOCAB
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
          f"{tokenizer.get_vocab_size()} tokens, {len(data.FACTS)} facts", flush=True)
    optimisers = make_optimisers(model)
    stopped = []
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stopped.append(True))
    log = (args.out / "log.csv").open("w", buffering=1)
    rows = csv.writer(log)
    rows.writerow(["step", "minutes", "tokens", "loss", "word_for_word"])
    began = checked = time.time()
    recent, tokens, word = [], 0, float("nan")
    warm_up = WARM_UP_AGAIN if args.go_on else WARM_UP
    for step, (x, y, counts) in enumerate(batches(tokenizer, args.seed or SEED + args.go_on, model.config.context)):
        minutes = (time.time() - began) / 60
        progress = step / args.steps if args.steps else minutes / args.minutes
        if progress >= 1 or stopped:
            break
        rate = min(step / warm_up, 1) * (FLOOR + (args.peak - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model(x)
            learn = y != -100
            logits = model.logits(hidden[learn])
        weight = (weights(learn) * counts)[learn]
        each = F.cross_entropy(logits.float(), y[learn], reduction="none")
        loss = (each * weight).sum() / weight.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            keep = min(1 - 1 / MEAN_OVER, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(mean.parameters()), list(model.parameters()), 1 - keep)
        recent = recent[-99:] + [loss.item()]
        tokens += x.numel()
        if step % 50 == 0:
            minutes = (time.time() - began) / 60
            shown = sum(recent) / len(recent)
            print(f"step {step} {minutes:.1f} min {tokens / minutes / 60:.0f} tokens/s loss {shown:.4f}", flush=True)
            if time.time() - checked > CHECK_EVERY:
                save(mean, tokenizer, folder)
                word, checked = word_for_word(mean, tokenizer), time.time()
                rows.writerow([step, f"{minutes:.1f}", tokens, f"{shown:.4f}", f"{word:.3f}"])
                print(f"  held out, word for word: {word:.1%}", flush=True)
    save(mean, tokenizer, folder)
    print(f"held out, word for word: {word_for_word(mean, tokenizer):.1%}; evaluate.py asks as users do")


if __name__ == "__main__":
    main()
