"""Hugging Face data sets, from this machine or from the hub.

`datasets` is imported only when one is opened. The network is used only where a name is given that is no local path.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets


def load_splits(source: str) -> dict[str, datasets.Dataset]:
    """Returns the splits of a data set.

    Args:
        source: "hf:" and a local path (saved data set, folder, .parquet), a hub name, or NAME:CONFIGURATION.

    Raises:
        FileNotFoundError: it cannot be found or loaded.
    """
    import datasets

    try:
        found = _load(source.removeprefix("hf:"))
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise FileNotFoundError(f"data set {source!r} cannot be loaded: {why}") from None
    return {"train": found} if isinstance(found, datasets.Dataset) else dict(found)


def _load(name: str) -> Any:
    import datasets

    path = Path(name).expanduser()
    if path.suffix == ".parquet" and path.is_file():
        return datasets.load_dataset("parquet", data_files=str(path))
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return datasets.load_from_disk(path)
    if path.exists():
        return datasets.load_dataset(str(path))
    return datasets.load_dataset(*name.split(":", 1))
