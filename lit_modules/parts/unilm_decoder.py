"""Writing after many passages at once, each token computed once.

A passage never looks at what follows it, so its keys and values are computed once and stay. All rows that write after
one passage share them: the rows are the queries of one sequence, and a mask says which of the tokens written so far
each row has before it. Reordering or repeating rows, as beams do in each step, therefore copies no keys at all.

Shapes: G passages of P tokens, R rows, V tokens of the vocabulary, S tokens that are stored for a passage.
"""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_modules.parts.unilm import additive, positions_of

if TYPE_CHECKING:
    from lit_modules.parts.unilm_network import UniLMNetwork


class KeyValueCache:
    """Keys and values of every layer, (2, G, heads, room, numbers), of which the first S tokens are there.

    Has the two methods of a transformers cache that attention calls.

    Attributes:
        length: number of tokens S that all layers have.
        room: number of tokens that fit in.
    """

    def __init__(self, room: int) -> None:
        self._layers: list[Tensor] = []
        self.length, self.room = 0, room

    def get_seq_length(self) -> int:
        """Number of tokens S."""
        return self.length

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Keep the keys and values (G, heads, new, numbers) of a layer and return all of that layer."""
        end = self.length + keys.shape[2]
        if layer == len(self._layers):
            self._layers.append(keys.new_empty(2, *keys.shape[:2], self.room, keys.shape[3]))
        stored = self._layers[layer]
        stored[0, :, :, self.length : end] = keys
        stored[1, :, :, self.length : end] = values
        return stored[0, :, :, :end], stored[1, :, :, :end]

    def add(self, tokens: int) -> None:
        """Count tokens that every layer has got."""
        self.length += tokens

    def make_room(self, room: int) -> None:
        """Let that many tokens fit in."""
        if room <= self.room:
            return
        self.room = room
        for number, stored in enumerate(self._layers):
            roomy = stored.new_empty(*stored.shape[:3], room, stored.shape[4])
            roomy[..., : self.length, :] = stored[..., : self.length, :]
            self._layers[number] = roomy

    def copy(self) -> "KeyValueCache":
        """Another one with the same tokens, which no other writes to."""
        other = KeyValueCache(self.room)
        other.length, other._layers = self.length, [stored.clone() for stored in self._layers]
        return other

    def keep_passages(self, passages: Tensor) -> None:
        """Keep these passages only, by their numbers."""
        self._layers = [stored[:, passages] for stored in self._layers]

    def keep_tokens(self, tokens: Tensor) -> None:
        """Keep these tokens only, by their numbers (G, kept)."""
        self.length = tokens.shape[1]
        for stored in self._layers:
            at = tokens[None, :, None, :, None].expand(2, -1, stored.shape[2], -1, stored.shape[4])
            stored[..., : self.length, :] = stored.gather(3, at)


class PrefixDecoder:
    """Rows that write after passages, a token each at a time; at first one row a passage.

    Args:
        network: in evaluation mode.
        passage: tokens (G, P).
        mask: bool (G, P), whether a token is real; the first one is, and padding comes last.

    Raises:
        ValueError: the network is in training mode, or a sequence is longer than it takes.
    """

    @torch.no_grad()
    def __init__(self, network: "UniLMNetwork", passage: Tensor, mask: Tensor) -> None:
        if network.training:
            raise ValueError("the network is in training mode, in which it drops states out: call its eval() first")
        self._network, self._bound = network, passage.shape[1]
        self._cache = KeyValueCache(2 * self._bound)
        self._logits: Tensor | None = None
        positions = positions_of(mask)
        network.check_positions(positions, self._bound)
        states = network.states(
            passage, torch.zeros_like(passage), positions, additive(mask[:, None], network.dtype), self._cache
        )
        self._cache.add(self._bound)
        # Of each row: the stored tokens that it sees, the next one's position, and the last one's state.
        self._seen, self._next = mask, mask.sum(dim=1)
        rows = torch.arange(len(passage), device=passage.device)
        self._states = states[rows, self._next - 1]
        self._place(rows, len(rows))

    @property
    @torch.no_grad()
    def logits(self) -> Tensor:
        """(R, V) of the next token of each row; not to be changed in place."""
        if self._logits is None:
            self._logits = self._network.project(self._states)
        return self._logits

    def advance(self, tokens: Tensor, active: Tensor | None = None) -> None:
        """Write a token in each row.

        Args:
            tokens: (R,).
            active: bool (R,), the rows that write; the others stay as they are. All by default.
        """
        active = torch.ones_like(tokens, dtype=torch.bool) if active is None else active
        self.extend(tokens[:, None], active[:, None])

    @torch.no_grad()
    def extend(self, tokens: Tensor, mask: Tensor) -> None:
        """Write several tokens in each row at once.

        Args:
            tokens: (R, K).
            mask: bool (R, K), those that are written; a row without any stays as it is.
        """
        added = self._width * tokens.shape[1]
        self._make_room(added)
        self._bound += tokens.shape[1]
        # Those that aren't written may have no position left.
        positions = torch.where(mask, self._next[:, None] + positions_of(mask), 0)
        self._network.check_positions(positions, self._bound)
        seen = self._seen_with(mask)
        states = self._network.states(
            self._grid(tokens),
            torch.ones_like(self._grid(tokens)),
            self._grid(positions),
            self._grid_mask(seen),
            self._cache,
        )
        self._cache.add(added)
        own = states.unflatten(1, (self._width, -1))[self._passage, self._column]
        self._write(own, seen[:, -1], mask)

    @torch.no_grad()
    def select(self, rows: Tensor) -> None:
        """Go on with these rows (R',), in this order; each may come any number of times, also not at all.

        Raises:
            ValueError: there are none.
        """
        if not len(rows):
            raise ValueError("no rows are left to write in")
        self._seen, self._next, self._states = self._seen[rows], self._next[rows], self._states[rows]
        if self._logits is not None:
            self._logits = self._logits[rows]
        passages, passage = self._passage[rows].unique(return_inverse=True)
        if len(passages) < self._passages:
            self._cache.keep_passages(passages)
        self._place(passage, len(passages))

    def copy(self) -> "PrefixDecoder":
        """Another one in the same state, which goes on alone."""
        # All that a decoder changes in place is what it has stored.
        other = copy.copy(self)
        other._cache = self._cache.copy()
        return other

    # ---- Rows of a passage side by side ----

    def _place(self, passage: Tensor, passages: int) -> None:
        """Give each row the passage (R,) that it writes after, and a column among the rows of that passage."""
        order = passage.argsort(stable=True)
        counts = passage.bincount(minlength=passages)
        column = torch.arange(len(passage), device=passage.device) - (counts.cumsum(0) - counts)[passage[order]]
        self._column = torch.empty_like(column).index_copy_(0, order, column)
        self._passage, self._passages, self._width = passage, passages, int(counts.max())

    def _grid(self, x: Tensor) -> Tensor:
        """Of each row (R, K, ...) as one sequence a passage, (G, width * K, ...), zeros where there is no row."""
        grid = x.new_zeros(self._passages, self._width, *x.shape[1:])
        grid[self._passage, self._column] = x
        return grid.flatten(1, 2)

    def _grid_mask(self, seen: Tensor) -> Tensor:
        grid = self._grid(seen)
        # What is in no row must see something, or half precision makes NaN; and every row sees its first token.
        grid[..., 0] = True
        return additive(grid, self._network.dtype)

    def _seen_with(self, mask: Tensor) -> Tensor:
        """Which tokens (R, K, S + width * K) each new token sees, itself and those before it in its row included."""
        rows, new = mask.shape
        left = torch.ones(new, new, dtype=torch.bool, device=mask.device).tril()
        added = mask.new_zeros(rows, new, self._width, new)
        added[torch.arange(rows, device=mask.device), :, self._column] = left & mask[:, None]
        return torch.cat([self._seen[:, None].expand(-1, new, -1), added.flatten(2)], dim=2)

    def _write(self, states: Tensor, seen: Tensor, mask: Tensor) -> None:
        """Take the states (R, K, H) of new tokens, and what the last of each row sees (R, S)."""
        written = mask.sum(dim=1)
        last = states[torch.arange(len(mask), device=mask.device), positions_of(mask)[:, -1]]
        self._states = torch.where(written[:, None] > 0, last, self._states)
        self._seen, self._next, self._logits = seen, self._next + written, None

    # ---- Memory ----

    def _make_room(self, added: int) -> None:
        needed = self._cache.length + added
        if needed <= self._cache.room:
            return
        self._drop_unseen()
        # A third to spare, so that this happens seldom.
        self._cache.make_room(4 * (self._cache.length + added) // 3)

    def _drop_unseen(self) -> None:
        """Forget tokens that no row has before it any more: padding, and what beams gave up."""
        counts = self._seen.new_zeros(self._passages, self._seen.shape[1], dtype=torch.int32)
        seen = counts.index_add_(0, self._passage, self._seen.int()) > 0
        order = (~seen).int().argsort(dim=1, stable=True)[:, : int(seen.sum(dim=1).max())]
        self._cache.keep_tokens(order)
        self._seen = self._seen.gather(1, order[self._passage])
