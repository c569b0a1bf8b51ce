"""A prompt's text as what the UNet reads: embeddings with weighted words, encoded once per pipeline."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from kolors_lab.core.errors import KolorsLabWarning, ModelError
from kolors_lab.models.device import device_of
from kolors_lab.models.presets import MAX_TOKENS, PREFIX
from kolors_lab.prompts.syntax import Span, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from diffusers import KolorsPipeline
    from diffusers.pipelines.kolors import ChatGLMTokenizer


class PromptCut(KolorsLabWarning):
    """The end of a prompt did not fit into the model's 256 tokens."""


def encode_prompt(
    pipe: KolorsPipeline, text: str, syntax: str = "webui", name: str = "prompt"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embedding (1, 256, hidden) and pooled vector (1, hidden) of a prompt whose words may carry weights.

    Only tokens of a weight other than 1 differ from what the pipeline itself makes of the text. z_empty is the state of
    the empty prompt's last token: padding stands on the left, where it would be a masked place's. Warns with PromptCut
    where the text, called `name`, is too long. Raises SettingError.
    """
    import torch

    spans = parse(text, syntax)
    plain = "".join(span.text for span in spans)
    room, places = MAX_TOKENS - PREFIX, token_characters(pipe.tokenizer, plain)
    weights = token_weights(spans, places[:room])
    if len(places) > room and (lost := plain[places[room][0] :]):
        told = PromptCut("{name}: only 256 tokens fit; not read: “{lost}”", name=name, lost=_short(lost))
        warnings.warn(told, stacklevel=2)
    with torch.no_grad():
        embeds, pooled = run_text_encoder(pipe, [plain])
        if any(weight != 1 for weight in weights):
            empty = run_text_encoder(pipe, [""])[0][:, -1:].float()
            factor = torch.ones(MAX_TOKENS, 1, device=embeds.device)
            factor[MAX_TOKENS - len(weights) :, 0] = torch.tensor(weights, device=embeds.device)
            weighted = (empty + (embeds.float() - empty) * factor).to(embeds.dtype)
            embeds = torch.where(factor == 1, embeds, weighted)
    return embeds, pooled


def run_text_encoder(pipe: KolorsPipeline, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings (B, 256, hidden) and pooled vectors (B, hidden) of texts without weights, where the encoder lies.

    Gradients flow through it to a word that learns. Everything that reads a text reads it here.
    """
    home = pipe.text_encoder.device
    device = home if home.type == "cuda" else device_of(pipe)  # offloaded, it lies on the CPU, works elsewhere
    embeds, _, pooled, _ = pipe.encode_prompt(
        texts, device=device, do_classifier_free_guidance=False, max_sequence_length=MAX_TOKENS
    )
    return embeds, pooled


def token_weights(spans: Sequence[Span], places: Sequence[tuple[int, int]]) -> list[float]:
    """The weight of each token, (begin, end) in the spans' text, which is cut into tokens without its weights.

    A token of characters of several weights takes their mean.
    """
    characters = [span.weight for span in spans for _ in span.text]
    weights = []
    for begin, end in places:
        of_token = set(characters[begin:end]) or {1.0}
        mean = sum(characters[begin:end]) / max(end - begin, 1)
        weights.append(of_token.pop() if len(of_token) == 1 else mean)
    return weights


def token_characters(tokenizer: ChatGLMTokenizer, text: str) -> list[tuple[int, int]]:
    """(begin, end) of each token's characters in `text`; the bytes of a rare character all get that character.

    The tokenizer is a slow one, without offsets. SentencePiece knows the text behind each piece; its positions count
    bytes in one version and characters in another, so the texts are looked up one after the other instead.
    """
    places, begin = [], 0
    for part in tokenizer.tokens_trie.split(text):  # words that were added, such as textual inversion's, stand alone
        added = part in tokenizer.added_tokens_encoder
        places += [(begin, begin + len(part))] if added else _pieces(tokenizer, part, begin)
        begin += len(part)
    return places


def _pieces(tokenizer: ChatGLMTokenizer, text: str, offset: int) -> list[tuple[int, int]]:
    """The same of a text without added words that begins at character `offset`."""
    model = tokenizer.tokenizer.sp_model
    encode = getattr(model, "encode_as_proto", None) or model.encode_as_immutable_proto  # before 0.2.1
    places, rare, position = [], 0, 0
    for piece in encode(text).pieces:
        if piece.piece.startswith("<0x") and not piece.surface:
            rare += 1  # its character comes with the last of its bytes
            continue
        begin = text.index(piece.surface, position)
        position = begin + len(piece.surface)
        places += [(offset + begin, offset + position)] * (rare + 1)
        rare = 0
    return places


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…” and {len(text) - 40} characters more, to “…{text[-8:]}"


KEPT_TEXTS = 256  # 4 MiB each for Kolors


_texts: WeakKeyDictionary[KolorsPipeline, dict] = WeakKeyDictionary()


def encode_text(pipe: KolorsPipeline, text: str, syntax: str = "webui") -> tuple[torch.Tensor, torch.Tensor]:
    """A prompt's embedding (1, 256, hidden) and pooled vector (1, hidden), encoded once per pipeline and text.

    What is known stays known when the text encoder is taken off to save memory (`pipe.text_encoder = None`).
    Raises ModelError where it is off and the text new, SettingError for a prompt that cannot be read.
    """
    known, encoder = _texts.setdefault(pipe, {}), pipe.text_encoder
    state = encoder and hash(tuple((id(weight), weight._version) for weight in encoder.parameters()))
    found = known.get((text, syntax))
    if found and (encoder is None or found[0] == state):
        return found[1]
    if encoder is None:
        raise ModelError(
            "the text encoder was taken off before this prompt was encoded: “{start}…”; load it again", start=text[:20]
        )
    known.pop((text, syntax), None)
    while len(known) >= KEPT_TEXTS:
        known.pop(next(iter(known)))
    known[text, syntax] = state, encode_prompt(pipe, text, syntax)
    return known[text, syntax][1]


def forget_texts(pipe: KolorsPipeline) -> None:
    """Encode texts anew from here on: the vocabulary has changed."""
    _texts.pop(pipe, None)


def encode_then_free(pipe: KolorsPipeline, texts: Iterable[tuple[str, str]]) -> None:
    """Encode all (prompt, syntax) of a run, then take the text encoder off: Kolors' 12 GiB that sampling never needs.

    `loading.load_for` does so on a GPU that has no room for all parts at once.
    """
    for text, syntax in texts:
        encode_text(pipe, text, syntax)
    pipe.remove_all_hooks()  # one of them holds the encoder
    pipe.text_encoder = None
