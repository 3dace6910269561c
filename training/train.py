"""Trains the guide. One command, CPU only, fixed seed:

    python train.py --out build            about an hour on two cores
    python train.py --out build --minutes 5   a quick look

Writes `build/hf/` (safetensors f32, tokenizer, config) and `build/log.csv`. `export.py` makes the other forms.
"""

import argparse
import csv
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer

import data
import tokenizer as tokenizer_file
from model import Config, Guide

SEED = 20
TOKENS_IN_BATCH = 6144
PEAK, FLOOR, WARM_UP = 2.0e-3, 2e-5, 300


def batches(tokenizer, seed: int, context: int):
    """Endless batches of samples of like length: ids [B, T], targets [B, T] (-100 where nothing is learnt)."""
    source = data.stream(seed)
    pad = tokenizer.token_to_id("<|endoftext|>")
    while True:
        pool = []
        for _ in range(2048):
            ids, learn = [], []
            for text, on in data.render(**next(source)):
                piece = tokenizer.encode(text).ids
                ids += piece
                learn += [on] * len(piece)
            if len(ids) <= context:
                pool.append((ids, learn))
        pool.sort(key=lambda s: len(s[0]))
        groups, group = [], []
        for s in pool:
            if group and len(s[0]) * (len(group) + 1) > TOKENS_IN_BATCH:
                groups.append(group)
                group = []
            group.append(s)
        groups.append(group)
        random.Random(len(groups) + len(pool)).shuffle(groups)
        for group in groups:
            width = max(len(ids) for ids, _ in group)
            x = torch.full((len(group), width - 1), pad)
            y = torch.full((len(group), width - 1), -100)
            for row, (ids, learn) in enumerate(group):
                t = torch.tensor(ids)
                x[row, : len(ids) - 1] = t[:-1]
                y[row, : len(ids) - 1] = torch.where(torch.tensor(learn[1:]), t[1:], -100)
            yield x, y


@torch.no_grad()
def answer(model, tokenizer, questions: list[str], limit: int = 80) -> list[str]:
    """Greedy answers to single questions, all at once: left-aligned, so each row reads its own last position."""
    model.eval()
    end = tokenizer.token_to_id("<|im_end|>")
    prompts = [tokenizer.encode("".join(t for t, _ in data.render([data.user(q)], generate=True))).ids for q in questions]
    out = [[] for _ in prompts]
    for chunk in range(0, len(prompts), 64):
        rows = list(range(chunk, min(chunk + 64, len(prompts))))
        for _ in range(limit):
            live = [i for i in rows if not out[i] or out[i][-1] != end]
            if not live:
                break
            width = max(len(prompts[i]) + len(out[i]) for i in live)
            x = torch.full((len(live), width), end)
            for n, i in enumerate(live):
                ids = prompts[i] + out[i]
                x[n, : len(ids)] = torch.tensor(ids)
            hidden = model(x)
            at = torch.tensor([len(prompts[i]) + len(out[i]) - 1 for i in live])
            for i, token in zip(live, model.logits(hidden[torch.arange(len(live)), at]).argmax(-1).tolist()):
                out[i].append(token)
    model.train()
    return [tokenizer.decode([t for t in ids if t != end], skip_special_tokens=True) for ids in out]


def held_out(model, tokenizer, every: int = 1):
    asked = [(f, q) for f in data.FACTS for q in f.held_out][::every]
    texts = answer(model, tokenizer, [q for _, q in asked])
    wrong = [(f.id, q, t) for (f, q), t in zip(asked, texts) if not f.right(t)]
    return 1 - len(wrong) / len(asked), wrong


def save(model, tokenizer, folder: Path):
    end = tokenizer.token_to_id("<|im_end|>")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    config = model.config.to_hf(tokenizer.token_to_id("<|endoftext|>"), end)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    generation = {"eos_token_id": end, "do_sample": True, "temperature": 0.3, "top_p": 0.9}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=3600)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    folder = args.out / "hf"
    tokenizer = tokenizer_file.save(folder)
    model = Guide(Config(vocab_size=tokenizer_file.VOCAB))
    assert tokenizer.get_vocab_size() <= tokenizer_file.VOCAB
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
          f"{tokenizer.get_vocab_size()} tokens, {len(data.FACTS)} facts", flush=True)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    optimiser = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0}],
                                  lr=PEAK, betas=(0.9, 0.98), fused=True)
    log = csv.writer((args.out / "log.csv").open("w"))
    log.writerow(["step", "minutes", "loss", "held_out"])
    began, recent = time.time(), []
    for step, (x, y) in enumerate(batches(tokenizer, SEED, model.config.context)):
        progress = max(step / args.steps, (time.time() - began) / 60 / args.minutes)
        if progress >= 1:
            break
        rate = min(step / WARM_UP, 1) * (FLOOR + (PEAK - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model(x)
            learn = y != -100
            logits = model.logits(hidden[learn])
        loss = F.cross_entropy(logits.float(), y[learn])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if step % 50 == 0:
            print(f"step {step} {(time.time() - began) / 60:.1f} min loss {sum(recent[-50:]) / len(recent[-50:]):.4f}",
                  flush=True)
        if step and step % 300 == 0:
            score, _ = held_out(model, tokenizer, every=3)
            log.writerow([step, f"{(time.time() - began) / 60:.1f}", f"{sum(recent[-100:]) / 100:.4f}", f"{score:.3f}"])
            print(f"  held-out {score:.1%}", flush=True)
            save(model, tokenizer, folder)
    save(model, tokenizer, folder)
    score, wrong = held_out(model, tokenizer)
    print(f"held-out {score:.1%}")
    for row in wrong:
        print(" ", *row, sep=" | ")


if __name__ == "__main__":
    main()
