"""The demo's report: one HTML file with tables and pictures, nothing to download."""

from phd.report.page import write_report

__all__ = ["write_report"]
