"""The entropy estimator against closed forms, scikit-learn's neighbors and its own gradient."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from lit_modules.parts import entropy
from lit_modules.parts.entropy import knn_entropy, kth_neighbors, normal_entropy

ROOT = Path(__file__).resolve().parents[2]


def normal(n: int, d: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n + d))


@pytest.mark.parametrize(("d", "bias"), [(1, 0.0), (2, 0.0), (8, -0.05), (16, 0.27), (32, 2.17), (64, 7.9)])
def test_normal(d: int, bias: float) -> None:
    """At n = 4096: hardly biased up to d = 8, and above as much as it is known to be; one draw varies by 0.1."""
    assert knn_entropy(normal(4096, d)).item() == pytest.approx(normal_entropy(d) + bias, abs=0.3)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_uniform_cube(k: int) -> None:
    """Side 3 in 2 dimensions: log 9; and twice the side is log 4 more, exactly."""
    cube = 3 * torch.rand(4096, 2, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    assert knn_entropy(cube, k).item() == pytest.approx(math.log(9), abs=0.05)
    difference = knn_entropy(2 * cube, k, floor=0) - knn_entropy(cube, k, floor=0)
    assert difference.item() == pytest.approx(math.log(4), abs=1e-12)


def test_formula_with_euler_s_constant() -> None:
    """k = 1 in 1 dimension: mean log eps + log 2 + log(n - 1) + gamma, up to 1 / 2n."""
    z = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    eps = [1.0, 1.0, 2.0, 4.0]
    harmonic = 1 + 1 / 2 + 1 / 3  # psi(4) - psi(1)
    expected = sum(map(math.log, eps)) / 4 + math.log(2) + harmonic
    assert knn_entropy(z, floor=0).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_neighbors_are_scikit_learn_s(k: int) -> None:
    z = normal(500, 6)
    found = NearestNeighbors(n_neighbors=k + 1).fit(z.numpy()).kneighbors(z.numpy())[1][:, k]
    assert kth_neighbors(z, z, k).tolist() == found.tolist()


@pytest.mark.parametrize("k", [1, 3])
def test_chunks_change_nothing(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z = normal(300, 4)
    whole = kth_neighbors(z, z, k)
    for entries in (1, 300 * 7, 300 * 299):
        monkeypatch.setattr(entropy, "CHUNK_ENTRIES", entries)
        assert torch.equal(kth_neighbors(z, z, k), whole)


@pytest.mark.parametrize("k", [1, 3])
def test_gradient(k: int) -> None:
    z = normal(12, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: knn_entropy(z, k), z)


def test_gradient_is_spread_by_scaling() -> None:
    """H(c z) = H(z) + d log c: the gradient along z is d."""
    z = normal(64, 5).double().requires_grad_()
    (gradient,) = torch.autograd.grad(knn_entropy(z, floor=0), z)
    assert (gradient * z).sum().item() == pytest.approx(5, abs=1e-9)


def test_coincident_points() -> None:
    z = torch.zeros(8, 3, requires_grad=True)
    value = knn_entropy(z)
    value.backward()
    assert value.isfinite()
    assert torch.equal(z.grad, torch.zeros(8, 3))
    pairs = torch.cat([normal(8, 3), normal(8, 3)]).requires_grad_()
    knn_entropy(pairs).backward()
    assert pairs.grad.isfinite().all()
    # With k = 2 each pair has a true neighbor.
    assert knn_entropy(pairs, 2) > knn_entropy(pairs) + 10


def test_close_points_far_from_the_origin() -> None:
    """Where distances by a matrix product are noise."""
    grid = torch.arange(64.0)[:, None] * 0.01
    assert knn_entropy(grid + 1000).item() == pytest.approx(knn_entropy(grid).item(), abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Computed in float32: the same as of the rounded values, also under autocast."""
    z = normal(256, 4).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        value = knn_entropy(z)
    assert value.dtype == torch.float32
    assert torch.equal(value, knn_entropy(z.float()))
    assert knn_entropy(z.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("shape", "k", "message"),
    [((4,), 1, r"\(n, d\), got \(4,\)"), ((4, 2), 0, "k=0 must be at least 1"), ((4, 2), 4, "less than .* batch, 4")],
)
def test_bad_arguments(shape: tuple[int, ...], k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        knn_entropy(torch.zeros(shape), k)


@pytest.mark.slow
def test_memory() -> None:
    """n = 16,384 in d = 64, forward and backward, takes less than 1.5 GB; the distances alone would be 1 GB twice."""
    # Not getrusage's peak: a child's starts at its parent's, of 1.9 GB after the other slow tests.
    script = r"""
import re, torch
from lit_modules.parts.entropy import knn_entropy
z = torch.randn(16384, 64, requires_grad=True)
knn_entropy(z, 3).backward()
print(int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1024)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1500


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Value and parameters' gradients, averaged over ranks as DDP does."""
    script = """
import sys, torch, torch.distributed as dist
from lit_modules.parts.entropy import knn_entropy
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
torch.manual_seed(0)
layer, x = torch.nn.Linear(3, 4), torch.randn(40, 3)
value = knn_entropy(layer(x.chunk(2)[rank]), k=2)
value.backward()
numbers = torch.cat([value.detach()[None], layer.weight.grad.flatten()])
dist.all_reduce(numbers)
if rank == 0:
    layer.zero_grad()
    torch.save(numbers / 2, f"{folder}/two.pt")
dist.barrier()
dist.destroy_process_group()
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([sys.executable, "-c", script, str(rank), str(tmp_path)], env=environment) for rank in (0, 1)
    ]
    assert [process.wait(120) for process in ranks] == [0, 0]
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(3, 4), torch.randn(40, 3)
    value = knn_entropy(layer(x), k=2)
    value.backward()
    expected = torch.cat([value.detach()[None], layer.weight.grad.flatten()])
    assert torch.allclose(torch.load(tmp_path / "two.pt", weights_only=True), expected, atol=1e-6)
