"""Evaluation protocols: each number with the protocol that made it, the same for teacher and student."""
