"""The weighted mean of checkpoints that one run after the other has left, which answers better than any of them:

    python mean.py --out build 0.15 run1/hf 0.2 run2/hf 0.3 run3/hf 0.35 run4/hf

They have to go on from one another (`train.py --go-on`), with one tokenizer. Writes `build/hf/`; `export.py` makes the other forms.
Source: Wortsman et al., Model soups (2203.05482).
"""

import argparse
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("shares", nargs="+", help="share and folder, by turns")
    args = parser.parse_args()
    shares = [float(share) for share in args.shares[::2]]
    folders = [Path(folder) for folder in args.shares[1::2]]
    if len(shares) != len(folders) or abs(sum(shares) - 1) > 1e-6:
        parser.error("give a share and a folder by turns; the shares add up to 1")
    tokenizers = {(folder / "tokenizer.json").read_text() for folder in folders}
    if len(tokenizers) != 1:
        parser.error("the checkpoints have different tokenizers")
    all_weights = [load_file(folder / "model.safetensors") for folder in folders]
    mean = {name: sum(share * weights[name] for share, weights in zip(shares, all_weights)) for name in all_weights[0]}
    shutil.copytree(folders[-1], args.out / "hf", dirs_exist_ok=True)
    save_file({k: v.contiguous() for k, v in mean.items()}, args.out / "hf" / "model.safetensors", metadata={"format": "pt"})
