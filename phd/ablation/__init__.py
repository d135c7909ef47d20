"""Ablations: variants times seeds, each run a JSON file, then one table and one plot."""
