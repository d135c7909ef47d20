"""Raw data sets to shards, one converter each.

A new converter is one module with a `Kind`, and one line here.
"""

from datamodules.convert.coco import COCO, convert_coco
from datamodules.convert.coco_phrases import COCO_CONCEPTS
from datamodules.convert.common import convert
from datamodules.convert.kind import Kind
from datamodules.convert.lvis import LVIS
from datamodules.convert.palette import DAVIS, LVOS, MOSE, YTVOS
from datamodules.convert.sa1b import SA1B, convert_sa1b
from datamodules.convert.saco import SACO_GOLD, SACO_SILVER
from datamodules.convert.sav import SAV
from datamodules.convert.sav_val import SAV_VAL
from datamodules.convert.summary import Summary
from datamodules.convert.veval import SACO_VEVAL

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        SA1B,
        COCO,
        COCO_CONCEPTS,
        LVIS,
        SACO_GOLD,
        SACO_SILVER,
        SACO_VEVAL,
        SAV,
        SAV_VAL,
        DAVIS,
        MOSE,
        LVOS,
        YTVOS,
    )
}

__all__ = ["KINDS", "Kind", "Summary", "convert", "convert_coco", "convert_sa1b"]
