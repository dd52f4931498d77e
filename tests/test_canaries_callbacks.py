"""Faults of the libraries that the callbacks work around; a failure here says that a workaround can go."""

from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from tests.callbacks.modules import Flatten, Images, TinyGAN, lightning_noise, quiet_trainer

pytestmark = lightning_noise


def test_lightnings_ema_never_updates_with_two_optimizers() -> None:
    class Counting(EMAWeightAveraging):
        updates = 0

        def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
            due = super().should_update(step_idx, epoch_idx)
            self.updates += due
            return due

    ema = Counting(update_every_n_steps=2)
    quiet_trainer(limit_train_batches=10, max_epochs=1, limit_val_batches=0, callbacks=[ema]).fit(
        TinyGAN(), Images(n=40)
    )
    assert ema.updates == 0, "PL#21724 is gone"


def test_the_feature_network_of_fid_joins_the_module_that_holds_it() -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            features = nn.Sequential(nn.Linear(64, 8), Flatten())
            features.num_features = 8  # type: ignore[assignment]
            self.fid = FrechetInceptionDistance(features)

    assert len(list(Holds().parameters())) == 2
    assert len(Holds().state_dict()) == 2
