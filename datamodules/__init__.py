"""LightningDataModules: one file a kind of data."""

from datamodules.images import ImageDataModule
from datamodules.points import PointsDataModule
from datamodules.steps import StepsDataModule

__all__ = ["ImageDataModule", "PointsDataModule", "StepsDataModule"]
