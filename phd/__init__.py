"""Progressive Hierarchical Distillation of the SAM family into small students."""

__version__ = "0.1.0"
