#!/bin/sh
# Makes the guide and puts it into crates/guide: 110 minutes on two cores, `training/make.sh --threads 1 --minutes 220` beside
# other work. All arguments go to train.py. A run that is interrupted (Ctrl-C) leaves what it has learnt until then.
set -e
cd "$(dirname "$0")"
python=${PYTHON:-.venv/bin/python}
if [ ! -x "$(command -v "$python")" ]; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet -r requirements.txt
fi
"$python" facts.py
"$python" train.py --out build "$@"
"$python" export.py --out build
cp build/guide.gguf ../crates/guide/guide.gguf
echo "crates/guide/guide.gguf is new; \`cargo xtask guide-eval\` examines it."
