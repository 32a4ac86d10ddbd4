"""Label leakage: evaluated queries that the model was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from m3gal_cli.data.records import Record


def leakage_notes(records: Sequence[Record], training_records: Sequence[Record]) -> list[str]:
    """Return a warning if there are queries with the text and a positive of a training record, else an empty list."""
    trained = {(r.query.strip(), key) for r in training_records for key in r.gold}
    leaked = sum(any((r.query.strip(), key) in trained for key in r.gold) for r in records)
    if not leaked:
        return []
    return [
        f"label leakage: {leaked:,} of {len(records):,} queries are among the training records of this run, "
        "with the same text and gold; the figures are too high"
    ]
