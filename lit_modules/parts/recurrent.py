"""LSTMs over padded sequences of different lengths."""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class BidirectionalLSTM(nn.Module):
    """One layer that reads each sequence forward and backward, the padding never.

    Args:
        width: numbers at each position of the input.
        hidden: numbers of each direction, so that twice as many come out.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Sequences (B, L, width) to (B, L, 2 hidden), 0 where there is padding.

        Args:
            x: B sequences, padded at their ends.
            mask: (B, L) bool, true before the padding; a sequence may be all padding.
        """
        # Not packed, the backward direction would begin with the padding, and a text's encoding would hang on what
        # else is in its batch.
        lengths = mask.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        read, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return read * mask[..., None]
