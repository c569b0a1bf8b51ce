"""Rebuild what is in data/, with fixed seeds.

    python data/make/build.py                             # everything, in order: `make data`, hours on two cores
    python data/make/build.py models.unet --steps 4600    # one step, with its own options

world/ says what is drawn, models/ what is trained on it, sets/ what else is shipped. Each step leaves what it made on
the way in data/make/build/ (or $KOLORS_LAB_BUILD) and goes on from there when it is run again; delete that folder to begin
anew. The tokenizer comes first: the text encoder's table of words is indexed by it.
"""

import runpy
import subprocess
import sys

STEPS = (
    "models.tokenizer",
    "world.captions",
    "sets.anime_raw",
    "sets.figurine",
    "models.text_encoder",
    "models.vae",
    "models.unet",
    "models.classifier",
    "models.figurine_probe",
    "models.clip_and_score",
    "bars",
)

if __name__ == "__main__":
    if len(sys.argv) > 1:  # this folder is on the path, as for every script's own
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        for step in STEPS:
            print(f"— {step}", flush=True)
            subprocess.run([sys.executable, __file__, step], check=True)
