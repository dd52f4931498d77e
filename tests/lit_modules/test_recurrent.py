"""An LSTM that never reads padding."""

import torch

from lit_modules.parts.recurrent import BidirectionalLSTM


def test_each_sequence_is_read_as_if_alone() -> None:
    lstm, lengths = BidirectionalLSTM(3, 4), [5, 1, 7, 4]
    x = torch.randn(4, 7, 3)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    read = lstm(x, mask)
    assert read.shape == (4, 7, 8)
    for row, length in enumerate(lengths):
        alone, _ = lstm.lstm(x[row : row + 1, :length])
        torch.testing.assert_close(read[row, :length], alone[0])
        assert not read[row, length:].any()


def test_a_sequence_of_padding_alone_is_0() -> None:
    lstm = BidirectionalLSTM(3, 4)
    mask = torch.tensor([[True, True], [False, False]])
    read = lstm(torch.randn(2, 2, 3), mask)
    assert read[0].all()
    assert not read[1].any()
