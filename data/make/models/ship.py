"""Put the models trained in build/models/ in the place of the shipped ones. Look at the bars first.

python data/make/build.py models.ship                # all of them
python data/make/build.py models.ship tiny-clip      # some
"""

import shutil
import sys

from models.common import DATA, MODELS


def ship(name: str) -> None:
    """The files of build/models/<name> over those of data/<name>; a card that stands there alone stays."""
    shutil.copytree(MODELS / name, DATA / name, dirs_exist_ok=True)
    for file in (DATA / name).rglob("*"):
        if file.is_file():
            file.chmod(0o644)
    print(f"data/{name}")


if __name__ == "__main__":
    for folder in sys.argv[1:] or sorted(path.name for path in MODELS.iterdir()):
        ship(folder)
