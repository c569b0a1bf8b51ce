"""Measure the bars: `python data/make/build.py bars --help`. Exit code 1 if one falls short."""

import argparse
import sys
import time

import torch
from models.common import BUILD

import bars
from bars import drawn, eyes, learned, table

BARS = (*eyes.BARS, *drawn.BARS, *learned.BARS)
PARTS = tuple(dict.fromkeys(bar.part for bar in BARS))


def main(options: argparse.Namespace) -> None:
    if options.list:
        print(*(f"{bar.part:10s} {bar.name:52s} {bar.relation} {bar.limit:g}" for bar in BARS), sep="\n")
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    table.SHARE[0] = options.share
    torch.manual_seed(0)
    fallen, start, last = [], time.time(), None
    for bar in (bar for bar in BARS if bar.part in options.only):
        if bar.part != last:
            print(f"— {bar.part}, {(time.time() - start) / 60:.1f} min", flush=True)
        last, value = bar.part, float(bar.measure())
        print(bar.line(value), flush=True)
        table.keep({f"{bar.part}: {bar.name}": value})
        fallen += [] if bar.holds(value) else [bar.name]
    print(f"{(time.time() - start) / 60:.1f} min")
    if fallen:
        sys.exit(f"{len(fallen)} fall short: {'; '.join(fallen)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=bars.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--share", type=float, default=1.0, help="of all pictures and training steps (%(default)s)")
    parser.add_argument("--list", action="store_true", help="name the bars and stop")
    main(parser.parse_args())
