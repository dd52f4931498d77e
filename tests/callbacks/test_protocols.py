import pytest

from callbacks.protocols import SupportsReconstruction, SupportsSampleFrom, SupportsSampling, require
from tests.callbacks.modules import TinyClassifier, TinyGAN


class Asking:
    """Stands for a callback."""


def test_a_module_with_the_methods_passes() -> None:
    module = TinyGAN()
    assert require(module, SupportsSampling, Asking()) is module
    assert require(module, SupportsSampleFrom, Asking()) is module


def test_the_error_names_module_callback_and_missing_methods() -> None:
    with pytest.raises(TypeError, match=r"Asking needs a module with reconstruct\(\), which TinyGAN doesn't"):
        require(TinyGAN(), SupportsReconstruction, Asking())
    with pytest.raises(TypeError, match=r"latents\(\) and decode\(\), which TinyClassifier doesn't"):
        require(TinyClassifier(), SupportsSampleFrom, Asking())
