"""Rebuild everything in data/ from nothing, with fixed seeds: `make data`. Hours on two cores.

Each step leaves what it made on the way in data/make/build/ and goes on from there when it is run again; delete that
folder to begin anew. The tokenizer comes first: the text encoder's table of words is indexed by it.
"""

import subprocess
import sys
from pathlib import Path

STEPS = (
    ("tokenizer.py",),
    ("captions.py", "stories"),
    ("raw_set.py",),
    ("figurine_set.py",),
    ("train_text.py",),
    ("train_vae.py",),
    ("train_unet.py",),
    ("train_classifier.py",),
    ("train_probe.py",),
    ("train_eyes.py",),
    ("bars.py",),
)

if __name__ == "__main__":
    for script, *arguments in STEPS:
        print(f"— {script}", flush=True)
        subprocess.run([sys.executable, str(Path(__file__).parent / script), *arguments], check=True)
