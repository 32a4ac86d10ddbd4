"""The error report: a page with the misses of an evaluation on maps, and their JSON lines."""

from m3gal_cli.evaluation.error_report.write import SUFFIXES, write_misses

__all__ = ["SUFFIXES", "write_misses"]
