"""LightningDataModules over WebDataset shards, and the converters that write them."""

from datamodules.sa1b import SA1B

__all__ = ["SA1B"]
