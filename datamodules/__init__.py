"""LightningDataModules: one file a kind of data."""

from datamodules.images import ImageDataModule
from datamodules.points import PointsDataModule
from datamodules.steps import StepsDataModule
from datamodules.text import TextDataModule

__all__ = ["ImageDataModule", "PointsDataModule", "StepsDataModule", "TextDataModule"]
