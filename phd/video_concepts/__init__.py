"""Every instance of noun phrases through a video: detect, track, and let the detector confirm what is tracked.

After SAM 3 (Carion et al. 2025, arXiv 2511.16719, the sections on its video model); the rules and their thresholds are
those of `Sam3VideoModel` in `transformers` (Apache 2.0) and its `Sam3VideoConfig`.

Example:
    from phd import load_segmenter
    from phd.video_concepts import ConceptTracker
    tracker = ConceptTracker(load_segmenter("runs/student"), ["dog", "red ball"])
    for found in tracker.follow(frames):
        print(found.frame, dict(zip(found.ids, found.phrases)))
"""

from phd.video_concepts.settings import ConceptTrackSettings
from phd.video_concepts.tracker import ConceptFrame, ConceptTracker

__all__ = ["ConceptFrame", "ConceptTrackSettings", "ConceptTracker"]
