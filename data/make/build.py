"""Rebuild what is in data/, with fixed seeds.

    python data/make/build.py                             # everything, in order: `make data`, hours on two cores
    python data/make/build.py models.unet --steps 4600    # one step, with its own options

world/ says what is drawn, models/ what is trained on it, sets/ what else is shipped. Each step leaves what it made on
the way in data/make/build/ (or $KOLORS_LAB_BUILD) and goes on from there when it is run again: a training that was
killed is taken up by the same command, at most five minutes before where it was. Delete that folder to begin anew.
Trained models lie in build/models/, and each step reads there what the one before it has trained, the shipped one where
there is none; the bars measure what lies there, and models.ship puts it into data/.

The order matters: the text encoder's table of words is indexed by the tokenizer; the UNet is trained on the text
encoder's words and on the latents of models.vae, which models.vae_decoder leaves as they are, so that these two may be
trained side by side. A longer training of the last steps, in goes of any length, and the end when it is good enough:

    python data/make/build.py models.unet --steps 100000 --cooldown 0 --minutes 120    # as often as there is time
    python data/make/build.py models.unet --steps 24000 --cooldown 3000    # it stood at 21,000: down to the end

The next go at the full rate starts from before the cool-down. On cores shared with others OMP_WAIT_POLICY=passive
and OMP_NUM_THREADS=1 are several times faster than torch's own choice. On a machine with a GPU,
hired for so many minutes, the rate falls by the clock (data/README.md has all that was run):

    build.py models.unet --device cuda --graph --batch 640 --minutes 5 --cool-minutes 2 --steps 1000000 --cooldown 0
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
    "models.vae_decoder",
    "models.unet",
    "models.classifier",
    "models.face_probe",
    "models.figurine_probe",
    "models.clip_and_score",
    "models.control_net",
    "models.ship",
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
