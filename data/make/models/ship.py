"""Put the models trained in build/models/ in the place of the shipped ones. Look at the bars first.

python data/make/build.py models.ship                # all of them
python data/make/build.py models.ship tiny-clip      # some
"""

import shutil
import sys

from models.common import DATA, MODELS

MB, LARGEST = 1_000_000, 15  # of a file, in MB: what repositories and hubs take without special means


def ship(name: str) -> None:
    """The files of build/models/<name> over those of data/<name>; a card that stands there alone stays."""
    if large := [file for file in (MODELS / name).rglob("*") if file.stat().st_size > LARGEST * MB]:
        sys.exit(f"{large[0]}: larger than {LARGEST} MB; nothing of {name} is shipped")
    shutil.copytree(MODELS / name, DATA / name, dirs_exist_ok=True)
    for file in (DATA / name).rglob("*"):
        if file.is_file():
            file.chmod(0o644)
    print(f"data/{name}")


if __name__ == "__main__":
    for folder in sys.argv[1:] or sorted(path.name for path in MODELS.iterdir()):
        ship(folder)
