"""LightningDataModules: one file a kind of data."""

from datamodules.images import ImageDataModule
from datamodules.points import PointsDataModule

__all__ = ["ImageDataModule", "PointsDataModule"]
