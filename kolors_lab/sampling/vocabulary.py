"""Words that the text encoder learned later: put into its vocabulary, taken out, kept in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kolors_lab.core.errors import ModelError, SettingError
from kolors_lab.core.files import replacing
from kolors_lab.lora.writing import serialize
from kolors_lab.sampling.text import forget_texts

if TYPE_CHECKING:
    import torch
    from diffusers import KolorsPipeline


FORMAT = "kolors_lab textual inversion"


def embedding_of(pipe: KolorsPipeline, word: str) -> torch.Tensor:
    """The mean embedding, (hidden,), of the word's tokens. SettingError for a word of none."""
    import torch

    ids = pipe.tokenizer.convert_tokens_to_ids(pipe.tokenizer.tokenize(word))
    if not ids:
        raise SettingError("initial_word = {word!r}: the tokenizer finds no token in it; give a word", word=word)
    table = pipe.text_encoder.get_input_embeddings()
    with torch.no_grad():
        device = next(table.parameters()).device
        return table(torch.tensor(ids, device=device)).float().mean(0)


def add_word(pipe: KolorsPipeline, word: str, vector: torch.Tensor) -> torch.nn.Parameter:
    """Give the pipeline's vocabulary one more word; its embedding, a float32 parameter that can learn."""
    from transformers import AddedToken

    table = _one_more(pipe.text_encoder.get_input_embeddings(), vector)
    pipe.text_encoder.embedding.word_embeddings = table
    # not add_tokens: it counts the different pieces, fewer than the rows of the table
    pipe.tokenizer.added_tokens_decoder = {table.num_embeddings - 1: AddedToken(word, normalized=False)}
    pipe.tokenizer.tokens_trie.add(word)
    forget_texts(pipe)
    return table.last


def remove_words(pipe: KolorsPipeline) -> None:
    """The vocabulary as it was before any `add_word`."""
    table, tokenizer = pipe.text_encoder.get_input_embeddings(), pipe.tokenizer
    while hasattr(table, "last"):
        table = table.base
    pipe.text_encoder.embedding.word_embeddings = table
    pipe.tokenizer = type(tokenizer)(tokenizer.vocab_file, model_max_length=tokenizer.model_max_length)
    forget_texts(pipe)


def _one_more(base: torch.nn.Module, vector: torch.Tensor) -> torch.nn.Module:
    """An embedding table with one row more than `base`, which is kept as it is and not copied."""
    import torch

    class OneMore(torch.nn.Module):
        def __init__(self):
            super().__init__()
            device = next(base.parameters()).device
            self.base, self.num_embeddings = base, base.num_embeddings + 1
            self.last = torch.nn.Parameter(vector.detach().clone().float().to(device))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            known = self.base(ids.clamp(max=self.num_embeddings - 2))
            new = (ids == self.num_embeddings - 1)[..., None]
            return torch.where(new, self.last.to(known.dtype), known)

    return OneMore()


def save_word(file: str | Path, word: str, vector: torch.Tensor, metadata: dict[str, str] | None = None) -> Path:
    """Write one safetensors tensor `embedding`, (hidden,), whose header says the word; whole or not at all."""
    tensors = {"embedding": vector.detach().float().cpu().contiguous()}
    with replacing(file) as temporary:
        temporary.write_bytes(serialize(tensors, {"format": FORMAT, "word": word, **(metadata or {})}))
    return Path(file)


def load_word(pipe: KolorsPipeline, file: str | Path) -> str:
    """Add the word of the file to the pipeline's vocabulary; return it, to be used in prompts.

    Raises ModelError for anything but such a file, and for a word made for another model.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as source:
            header, vector = source.metadata() or {}, source.get_tensor("embedding")
    except (SafetensorError, OSError) as error:
        raise ModelError(
            "{file} is damaged or no word learned by textual inversion ({error})", file=file, error=error
        ) from error
    hidden = pipe.text_encoder.config.hidden_size
    if header.get("format") != FORMAT or not header.get("word") or not vector.isfinite().all():
        raise ModelError(
            "{file} holds no word learned by textual inversion; make one with `kolors-lab invert`", file=file
        )
    if vector.shape != (hidden,):
        raise ModelError(
            "{file} was made for another model: {there} there, {here} here",
            file=file,
            there=tuple(vector.shape),
            here=(hidden,),
        )
    add_word(pipe, header["word"], vector)
    return header["word"]
