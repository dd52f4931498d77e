"""LightningDataModules: one file a kind of data."""

from datamodules.entity_linking import EntityLinkingDataModule
from datamodules.images import ImageDataModule
from datamodules.neighbors import NeighborsDataModule
from datamodules.passages import PassageDataModule
from datamodules.points import PointsDataModule
from datamodules.records import BorrowingDataModule
from datamodules.steps import StepsDataModule
from datamodules.text import TextDataModule

__all__ = [
    "BorrowingDataModule",
    "EntityLinkingDataModule",
    "ImageDataModule",
    "NeighborsDataModule",
    "PassageDataModule",
    "PointsDataModule",
    "StepsDataModule",
    "TextDataModule",
]
