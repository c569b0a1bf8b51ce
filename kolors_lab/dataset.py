"""Picture-caption folders: reading and checking them, and encoding them once into latents and prompt embeddings."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DataError
from .files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from diffusers import KolorsPipeline
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # none that starts another program, as EPS does
MAX_SIDE = 65_500  # px, JPEG's limit: a longer picture could not be written back
MAX_PIXELS = 2**27  # 134 megapixels: more than a camera takes; a decompression bomb beyond
MAX_TOKENS = 256  # of a Kolors prompt, its prefix included


@dataclass(frozen=True)
class DataConfig:
    """What a training learns from.

    Args:
        data: the folder of pictures and captions, such as juice makes
        trigger_word: noted in the LoRA if captions hold it, so that users know how to call the style
    """

    data: str = "runs/clean"
    trigger_word: str = "二次元"

    def __post_init__(self):
        """Check the fields; a class made of several settings lets each base check its own."""


@dataclass(frozen=True)
class Example:
    """One picture and its caption. `image` may not exist and `text` may be empty: `check_examples` tells."""

    image: Path
    text: str


# Reading a folder ----------------------------------------------------------------------------------------------------


def read_examples(folder: str | Path) -> list[Example]:
    """Read metadata.jsonl (`text`, `image`), metadata.csv (`file_name,text`) or pictures with a .txt of the same stem.

    They are looked for in the folder and in its `train/`. Paths are relative to the metadata and stay in the folder.
    Pictures are not opened. Raises DataError, naming the line, for what cannot be read; for a folder without examples.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"the folder {folder} does not exist; give one with pictures and captions, as `kolors-lab juice` makes it"
        )
    readers = {"metadata.jsonl": _read_jsonl, "metadata.csv": _read_csv}
    for place in (folder, folder / "train"):
        for name, reader in readers.items():
            if (place / name).is_file():
                return _resolve(reader(place / name), place / name, folder)
    for place in (folder, folder / "train"):
        if examples := _read_txt(place):
            return examples
    raise DataError(f"{folder} holds no metadata.jsonl, no metadata.csv and no pictures with .txt captions")


def _resolve(rows: Iterator[tuple[int, str, str]], metadata: Path, folder: Path) -> list[Example]:
    """Examples from (line, path, caption); a path that leaves the folder, by `..` or by a link, is an error."""
    root, examples = folder.resolve(), []
    for line, name, text in rows:
        image = metadata.parent / name
        if not image.resolve().is_relative_to(root):
            raise DataError(f"{metadata} line {line}: {name!r} lies outside {folder}; copy the picture into it")
        examples.append(Example(image, text.strip()))
    if not examples:
        raise DataError(f"{metadata} lists no pictures")
    return examples


def _read_jsonl(file: Path) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(_read_text(file).split("\n"), 1):  # not splitlines: JSON may hold U+2028
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            image = row["image"]
            image = image[0] if isinstance(image, list) and len(image) == 1 else image
            text = row.get("text") or ""
            if not (isinstance(image, str) and image and isinstance(text, str)):
                raise ValueError("image must be one path and text a string")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f'{file} line {number}: not like {{"text": "...", "image": ["train/1.jpg"]}} ({reason})'
            ) from error
        yield number, image, text


def _read_csv(file: Path) -> Iterator[tuple[int, str, str]]:
    rows = csv.DictReader(io.StringIO(_read_text(file), newline=""))
    try:
        if not {"file_name", "text"} <= set(rows.fieldnames or ()):
            raise DataError(f"{file} line 1: needs the columns file_name,text; has {','.join(rows.fieldnames or ())}")
        for row in rows:
            if not row["file_name"] or None in row:
                raise DataError(f"{file} line {rows.line_num}: needs a file_name and a text; quote texts with commas")
            yield rows.line_num, row["file_name"], row["text"] or ""
    except csv.Error as error:
        raise DataError(f"{file} line {rows.line_num}: not CSV ({error})") from error


def _read_txt(folder: Path) -> list[Example]:
    """Pictures and captions of the same stem; what lacks its other half is listed too."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
    captions = {file.stem: file for file in files if file.suffix.lower() == ".txt"}
    if not pictures or not captions:
        return []
    root, examples = folder.resolve(), []
    for picture in pictures:
        caption = captions.get(picture.stem)
        for file in (picture, caption):
            if file and not file.resolve().is_relative_to(root):
                raise DataError(f"{file} is a link to outside of {folder}; copy the file into it")
        examples.append(Example(picture, _read_text(caption).strip() if caption else ""))
    stems = {picture.stem for picture in pictures}
    return examples + [Example(file.with_suffix(""), "") for stem, file in captions.items() if stem not in stems]


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8; save it again as UTF-8 (in Excel: CSV UTF-8)") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def check_examples(examples: list[Example]) -> None:
    """Raise DataError, naming the first and the count, if a picture cannot be read or a caption is missing."""
    faults = []
    for example in examples:
        try:
            if not example.text:
                raise DataError(f"{example.image} has no caption")
            open_image(example.image)
        except DataError as error:
            faults.append(str(error))
    if faults:
        more = f", and {len(faults) - 1} more like it" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{more}; `kolors-lab juice` makes a folder without such examples")


# Pictures ------------------------------------------------------------------------------------------------------------


def open_image(file: str | Path) -> Image.Image:
    """Open a picture as 8-bit RGB, turned as its EXIF says, transparency on white, the first frame of an animation.

    What it is goes by the content, not by the suffix. Raises DataError for what is missing, empty, truncated, no
    picture at all, or larger than MAX_PIXELS.
    """
    from PIL import Image, ImageFile, ImageOps

    file = Path(file)
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing data_juicer switches it on for the whole process
    try:
        if file.stat().st_size == 0:
            raise DataError(f"{file} is empty (0 bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's bomb warning and broken EXIF: judged here, not printed
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS or max(image.size) > MAX_SIDE:
                    raise DataError(f"{file} has {image.width} x {image.height} px, more than can be handled safely")
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{file} does not exist") from error
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        reason = "no picture in a format known here" if isinstance(error, Image.UnidentifiedImageError) else error
        raise DataError(f"{file} cannot be read as a picture ({reason})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; Pillow's own conversion would cut 16-bit greys off at 255 and turn transparency black."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def crop(image: Image.Image, size: int) -> tuple[Image.Image, tuple[int, int]]:
    """The centre square at `size` px, and its (top, left) in the picture scaled to that shortest side, in px."""
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # one step straight from the box, so that a picture of 1 x 10000 is never blown up whole
    square = image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
    return square, (round(top * size / side), round(left * size / side))


# Encoding ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """A set as the UNet sees it; n pictures, m different captions."""

    latents: torch.Tensor  # (n, 4, size/8, size/8) float32, scaled; the mean of the VAE's distribution
    time_ids: torch.Tensor  # (n, 6): original height, width, crop top, left, target height, width, in px
    prompt_embeds: torch.Tensor  # (m, 256, d)
    pooled: torch.Tensor  # (m, d)
    caption: torch.Tensor  # (n,) each picture's row among the captions

    def batch(self, index: torch.Tensor, device: torch.device | str) -> dict[str, torch.Tensor]:
        """The examples at `index`, (B,), on the device; `weight`, (B,), is how much each counts in the loss."""
        import torch

        caption = self.caption[index]
        return {
            "latents": self.latents[index].to(device),
            "time_ids": self.time_ids[index].to(device),
            "prompt_embeds": self.prompt_embeds[caption].to(device),
            "pooled": self.pooled[caption].to(device),
            "weight": torch.ones(len(index), device=device),
        }

    def batches(self, sizes: Sequence[int], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """The indices of each step's examples, `sizes[i]` of them; every example comes once before any comes again.

        All are drawn at once, before any noise, so that a run that goes on after a stop draws the same ones again.
        """
        import torch

        count = len(self.latents)
        rounds = -(-sum(sizes) // count)
        order = torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])
        return order[: sum(sizes)].split(list(sizes))


def encode(
    pipe: KolorsPipeline,
    examples: list[Example],
    size: int,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
) -> Encoded:
    """Encode pictures and captions, each different one once, and keep the results in the user's cache.

    Text encoder and VAE come to `device` in turn and go back to the CPU, so that they never lie there together.
    `on_step(done, total)` is called after each. Raises DataError for a picture that cannot be read.
    """
    import torch

    captions = list(dict.fromkeys(example.text for example in examples))
    total = len(captions) + len(examples)
    tick = (lambda done: on_step(done, total)) if on_step else (lambda done: None)
    texts, latents = [], []
    with torch.no_grad():
        pipe.text_encoder.to(device)
        model = fingerprint(pipe.text_encoder) + _tokenizer_fingerprint(pipe)
        for text in captions:
            texts.append(_cached(_key("text", text, model, MAX_TOKENS), lambda t=text: _encode_text(pipe, t, device)))
            tick(len(texts))
        pipe.text_encoder.to("cpu")
        dtype, model = pipe.vae.dtype, fingerprint(pipe.vae)
        pipe.vae.to(device).float()  # in half precision SDXL's VAE overflows
        for example in examples:
            key = _key("latents", _read_bytes(example.image), model, size)
            latents.append(_cached(key, lambda e=example: _encode_image(pipe.vae, e.image, size)))
            tick(len(captions) + len(latents))
        torch.nn.Module.to(pipe.vae, "cpu", dtype)
    return Encoded(
        latents=torch.stack([entry["latent_mean"] for entry in latents]),
        time_ids=torch.stack([entry["time_ids"] for entry in latents]),
        prompt_embeds=torch.stack([entry["prompt_embeds"] for entry in texts]),
        pooled=torch.stack([entry["pooled"] for entry in texts]),
        caption=torch.tensor([captions.index(example.text) for example in examples]),
    )


def _encode_text(pipe: KolorsPipeline, text: str, device: torch.device | str) -> dict[str, torch.Tensor]:
    embeds, _, pooled, _ = pipe.encode_prompt(
        text, device=device, do_classifier_free_guidance=False, max_sequence_length=MAX_TOKENS
    )
    return {"prompt_embeds": embeds[0].cpu(), "pooled": pooled[0].cpu()}


def _encode_image(vae: torch.nn.Module, file: Path, size: int) -> dict[str, torch.Tensor]:
    """Mean and standard deviation, (4, size/8, size/8), both scaled; time ids (6,) as SDXL's training gives them."""
    import numpy as np
    import torch

    image = open_image(file)
    square, corner = crop(image, size)
    pixels = torch.from_numpy(np.asarray(square, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    posterior = vae.encode(pixels.to(vae.device)).latent_dist
    scale = vae.config.scaling_factor
    return {
        "latent_mean": (posterior.mean[0] * scale).cpu(),
        "latent_std": (posterior.std[0] * scale).cpu(),
        "time_ids": torch.tensor([image.height, image.width, *corner, size, size], dtype=torch.float32),
    }


def fingerprint(module: torch.nn.Module) -> str:
    """A hash of name, shape, type and first values of every parameter: another model or training gives another."""
    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        values = parameter.detach().flatten()[:16].float().cpu().numpy().tobytes()
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode() + values)
    return digest.hexdigest()


def _tokenizer_fingerprint(pipe: KolorsPipeline) -> str:
    return hashlib.sha256(_read_bytes(Path(pipe.tokenizer.vocab_file))).hexdigest()


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error


def cache_dir() -> Path:
    """Where encoded examples are kept: KOLORS_LAB_CACHE, else `kolors_lab` in the user's cache folder."""
    if chosen := os.environ.get("KOLORS_LAB_CACHE"):
        return Path(chosen)
    home = {"win32": os.environ.get("LOCALAPPDATA"), "darwin": "~/Library/Caches"}.get(sys.platform)
    return Path(home or os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kolors_lab"


def _key(*parts: object) -> str:
    """One hash over the parts, each with its length, so that no two lists of parts run together."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _cached(key: str, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The tensors kept under `key`; made, and kept, where they are missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    file = cache_dir() / key[:2] / f"{key}.safetensors"
    try:
        return load_file(file)
    except (OSError, SafetensorError):
        tensors = make()
    with replacing(file) as temporary:
        temporary.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))
    return tensors
