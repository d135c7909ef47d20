"""Raw data sets to shards, one converter each."""

from datamodules.convert.coco import convert_coco
from datamodules.convert.common import Summary
from datamodules.convert.sa1b import convert_sa1b

__all__ = ["Summary", "convert_coco", "convert_sa1b"]
