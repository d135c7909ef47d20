"""Callbacks shared by the three stages."""
