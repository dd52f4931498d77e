"""Drawing sequences from a network, by top-k, top-p (nucleus) and temperature; each row by a seed of its own.

Source: article 8 samples answers by top-p 0.95; Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration".
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_modules.parts.decoding import Constraint, Decoded, Decoder, filtered, without_padding
from lit_modules.parts.noise import generator_of


def sample(
    decoder: Decoder,
    *,
    keys: Sequence[str],
    end: int,
    max_length: int,
    banned: Sequence[int] = (),
    top_k: int | None = None,
    top_p: float = 1.0,
    temperature: float = 1.0,
    constraint: Constraint | None = None,
) -> Decoded:
    """Draw a sequence of at least one token for each row, and leave the decoder after its end.

    A row depends on its key and its own probabilities only, not on what else is in the batch. One that has
    ``max_length`` tokens is ended there as if the end had been drawn, so that what follows doesn't continue it.

    Args:
        decoder: R sequences; all of them get ``end`` as the last token.
        keys: of the rows' random numbers, (R).
        end: the token that ends a sequence.
        max_length: of a sequence in tokens, without its end.
        banned: tokens that are never drawn.
        top_k: only the k most probable tokens are drawn from, and those as probable as the last of them.
        top_p: only the most probable tokens that reach this probability together are drawn from: see :func:`nucleus`.
        temperature: the logits are divided by it before.
        constraint: what may come next; advanced along.

    Raises:
        ValueError: ``constraint`` and ``banned`` leave a row nothing to begin with, or ``keys`` don't fit the decoder.
    """
    logits = decoder.logits
    rows, device = len(logits), logits.device
    if len(keys) != rows:
        raise ValueError(f"sample takes a key for each row: the decoder has {rows} rows, there are {len(keys)} keys")
    uniform = uniform_numbers(keys, max_length).to(device)
    tokens = torch.full((rows, max_length), end, device=device)
    log_probs = torch.zeros(rows, device=device)
    active = torch.ones(rows, dtype=torch.bool, device=device)
    for step in range(max_length):
        usable = filtered(decoder.logits, [*banned, end] if step == 0 else banned, constraint)
        probabilities = nucleus(top_tokens(usable / temperature, top_k).softmax(dim=1), top_p)
        drawn = torch.where(active, drawn_tokens(probabilities, uniform[:, step]), end)
        log_probs += torch.where(active, log_probabilities(decoder.logits, drawn), 0.0)
        tokens[:, step] = drawn
        active = active & (drawn != end)
        if not active.any():
            break
        decoder.advance(drawn, active)
        if constraint is not None:
            constraint.advance(drawn, active)
    ends = torch.full((rows,), end, device=device)
    log_probs += torch.where(active, log_probabilities(decoder.logits, ends), 0.0)
    decoder.advance(ends)
    return Decoded(without_padding(tokens, (tokens != end).sum(dim=1)), log_probs)


def uniform_numbers(keys: Sequence[str], number: int) -> Tensor:
    """Numbers in [0, 1) for each key, (R, number) float64; the first ones are the same for any ``number``."""
    drawn = [torch.rand(number, dtype=torch.float64, generator=generator_of(key)) for key in keys]
    return torch.stack(drawn) if drawn else torch.zeros(0, number, dtype=torch.float64)


def log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """Of ``tokens`` (R,) by ``logits`` (R, V): (R,) float32."""
    logits = logits.float()
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=1)


def top_tokens(logits: Tensor, top_k: int | None) -> Tensor:
    """The logits (R, V) with all but the ``top_k`` greatest, and those equal to the last, at minus infinity."""
    if top_k is None or top_k >= logits.shape[1]:
        return logits
    return logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The probabilities (R, V) with 0 for tokens outside of the nucleus; not normalized again.

    The nucleus has the most probable tokens up to and with the one that makes their sum reach ``top_p``; tokens that
    are as probable as that one belong to it too, so that no order among equals matters.
    """
    if top_p >= 1:
        return probabilities
    # Sorting a whole vocabulary costs more than a step of a small network; the nucleus mostly is a few tokens.
    size = min(64, probabilities.shape[1])
    while True:
        greatest = probabilities.topk(size).values
        before = greatest.cumsum(dim=1) - greatest
        if size == probabilities.shape[1] or (before[:, -1] >= top_p).all():
            break
        size = min(8 * size, probabilities.shape[1])
    least = greatest.masked_fill(before >= top_p, torch.inf).amin(dim=1, keepdim=True)
    return probabilities.masked_fill(probabilities < least, 0)


def drawn_tokens(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Tokens (R,) drawn by the inverse of their distribution function.

    Args:
        probabilities: (R, V), up to a factor of each row.
        uniform: (R,) float64 in [0, 1).

    Raises:
        ValueError: a row without any token (its probabilities aren't numbers).
    """
    # By the vocabulary's order: rounding that swaps tokens of nearly the same probability changes no draw.
    sums = probabilities.double().cumsum(dim=1)
    if not (sums[:, -1] > 0).all():
        raise ValueError("no token may come next: the constraint and the banned tokens leave none")
    drawn = torch.searchsorted(sums, (uniform * sums[:, -1])[:, None], right=True)[:, 0]
    # The product may round up to the whole sum: then it is the last token that has a probability.
    return drawn.minimum((probabilities > 0).long().cumsum(dim=1).argmax(dim=1))
