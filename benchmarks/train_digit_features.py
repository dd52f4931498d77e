"""Make callbacks/mnist_features.safetensors: train the classifier whose penultimate layer is `DigitFeatures`.

    python -m benchmarks.train_digit_features --images train-images-idx3-ubyte.gz \
        --labels train-labels-idx1-ubyte.gz

Takes about 3 minutes on one CPU core. Prints the accuracy on the last 10,000 images, which it never
trains on, and leaves an existing file alone if that is below 99 %.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from callbacks.features import DIGIT_WEIGHTS, DigitFeatures

HELD_OUT = 10_000


def read_digits(images_path: Path, labels_path: Path) -> tuple[Tensor, Tensor]:
    """MNIST's images (N, 1, 28, 28), float32 in [-1, 1], and labels (N,), int64, from gzipped IDX files."""
    pixels = np.frombuffer(gzip.decompress(images_path.read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress(labels_path.read_bytes()), np.uint8, offset=8)
    images = torch.from_numpy(pixels.reshape(-1, 1, 28, 28).copy()).float() / 127.5 - 1
    return images, torch.from_numpy(labels.copy()).long()


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """The batch moved by up to 2 pixels, one random offset a batch: the only augmentation."""
    down, right = (int(torch.randint(-2, 3, (), generator=generator)) for _ in range(2))
    return F.pad(images, (2, 2, 2, 2), value=-1.0)[..., 2 - down : 30 - down, 2 - right : 30 - right]


def train(images: Tensor, labels: Tensor, epochs: int, batch_size: int, seed: int) -> DigitFeatures:
    """A trained network in eval mode; a pure function of its arguments."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = DigitFeatures(pretrained=False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    steps = len(images) // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=epochs * steps)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)[: steps * batch_size].view(steps, -1)
        for rows in order:
            logits = network.classify(shift(images[rows], generator))
            loss = F.cross_entropy(logits, labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: loss of the last batch {loss.item():.4f}", flush=True)
    return network.eval()


@torch.no_grad()
def accuracy(network: DigitFeatures, images: Tensor, labels: Tensor) -> float:
    """Share of the images whose digit the network names, in [0, 1]."""
    guesses = torch.cat([network.classify(part).argmax(1) for part in images.split(500)])
    return (guesses == labels).double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=DIGIT_WEIGHTS)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    images, labels = read_digits(args.images, args.labels)
    network = train(images[:-HELD_OUT], labels[:-HELD_OUT], args.epochs, batch_size=125, seed=args.seed)
    score = accuracy(network, images[-HELD_OUT:], labels[-HELD_OUT:])
    print(f"accuracy on the {HELD_OUT:,} held-out images: {100 * score:.2f} %")
    if score < 0.99:
        raise SystemExit("below 99 %: nothing written")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, args.out)
    print(f"wrote {args.out} ({args.out.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
