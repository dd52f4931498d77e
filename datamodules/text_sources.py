"""Finds out what a text source is: files, a Hugging Face data set, the embedded text, or sentences given in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from datamodules.checks import nearest
from datamodules.docstrings import docstring_paragraphs, docstrings_key
from datamodules.hub import load_splits
from datamodules.segmenters import Segmenter
from datamodules.text_files import file_key, find_files, read_lines

if TYPE_CHECKING:
    import datasets

Sentence = str | Sequence[str]


@dataclass(frozen=True)
class TextSource:
    """A text that can be read.

    Args:
        name: what messages call it.
        key: JSON-plain; differs where the text differs. None where that cannot be told.
        read: yields its sentences: lines to be segmented, or lists of tokens.
    """

    name: str
    key: list[Any] | None
    read: Callable[[], Iterator[Sentence]]


def open_text(source: str | Sequence[str], column: str | None) -> TextSource:
    """Opens what `TextDataModule` takes as `source` and `column`, without reading the text.

    Raises:
        FileNotFoundError: there is no such thing; the message names the nearest one that there is.
        ValueError: an empty list, a data set without a text column, or `column` for another source.
    """
    if isinstance(source, str) and source.startswith("hf:"):
        return _open_hub(source, column)
    if column is not None:
        raise ValueError(f"column is {column!r}, but only data sets (hf:NAME) have columns; source is {source!r}")
    if source == "docstrings":
        return TextSource(source, ["docstrings", *docstrings_key()], docstring_paragraphs)
    sources = [source] if isinstance(source, str) else list(source)
    files = [file for name in sources for file in find_files(name)]
    if not files:
        raise ValueError("source is an empty list; give 'docstrings', paths or hf:NAME")
    key = ["files", *map(file_key, files)]
    return TextSource(", ".join(sources), key, lambda: chain.from_iterable(map(read_lines, files)))


def open_sentences(sentences: Iterable[Sentence]) -> TextSource:
    """Opens sentences given in Python; they are read once.

    Raises:
        ValueError: a single string; later, a sentence that is neither a string nor a list of strings.
    """
    if isinstance(sentences, str):
        raise ValueError("sentences is a single string; give an iterable of sentences, or a path as `source`")
    return TextSource("sentences", None, lambda: _checked(sentences))


def segmented(source: TextSource, segmenter: Segmenter) -> Iterator[Iterable[str]]:
    """Yields the tokens of each sentence.

    Raises:
        ValueError: the segmenter returns no tokens, but a string.
    """
    for sentence in source.read():
        tokens = segmenter(sentence) if isinstance(sentence, str) else sentence
        if isinstance(tokens, str):
            raise ValueError(f"the segmenter makes a string of a line ({_shortened(tokens)}), not a list of tokens")
        yield tokens


def _checked(sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    for number, sentence in enumerate(sentences):
        if isinstance(sentence, str):
            yield from sentence.split("\n")
        elif isinstance(sentence, list | tuple) and all(isinstance(token, str) for token in sentence):
            yield sentence
        else:
            raise ValueError(f"sentence {number} is {_shortened(sentence)}; give strings, or lists of tokens")


def _shortened(thing: Any) -> str:
    text = repr(thing)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _open_hub(source: str, column: str | None) -> TextSource:
    splits = load_splits(source)
    table = splits.get("train") or next(iter(splits.values()))
    column = _text_column(table, source, column)
    key = ["hf", str(table._fingerprint), column]
    return TextSource(source, key, lambda: _rows(table, column))


def _rows(table: datasets.Dataset, column: str) -> Iterator[str]:
    for batch in table.select_columns(column).iter(batch_size=1000):
        for text in batch[column]:
            yield from (text or "").split("\n")


def _text_column(table: datasets.Dataset, source: str, column: str | None) -> str:
    """Returns the column asked for, or else "text", or else the only one of strings."""
    kinds = {name: str(getattr(kind, "dtype", kind)) for name, kind in table.features.items()}
    texts = [name for name, kind in kinds.items() if kind in ("string", "large_string")]
    listing = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    if column is None:
        if "text" in texts or len(texts) == 1:
            return "text" if "text" in texts else texts[0]
        lack = "has several columns of text" if texts else "has no column of text"
        raise ValueError(f"data set {source!r} {lack}; name one as `column`: it has {listing}")
    if column not in texts:
        hint = nearest(column, texts)
        raise ValueError(f"data set {source!r} has no column of text {column!r}; it has {listing}{hint}")
    return column
