"""The family table: every student through the three stages, each number beside the teacher's."""
