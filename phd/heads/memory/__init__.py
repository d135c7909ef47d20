"""The memory of a tracker: what a frame leaves behind, and how small it can be made."""
