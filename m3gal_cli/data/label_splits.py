"""Split labelled queries into train, val and test, by a hash of their text.

Whether a query is a test query does not depend on other queries. It therefore stays in test when labels are added.
Queries with the same letters and digits are in the same split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from m3gal_cli.data.labels import LabelledQuery
from m3gal_cli.errors import InputError

SPLITS = ("train", "val", "test")
TEST_SHARE, VAL_SHARE = 0.2, 0.1
MIN_VAL = 25  # the fit of the reranker needs 20 queries with their gold among the candidates
DEFAULT_SEED = 2023


@dataclass(frozen=True)
class SplitRule:
    """The rule by which queries without a given split are split.

    Attributes:
        val: Share of the queries for validation; None: ``VAL_SHARE``, but at least ``MIN_VAL`` queries, and at most
            half of the queries that are not in test.
        test: Share of the queries for test.
        seed: Random seed of the hash.
        keep: Draw no split if the source names the split of any query.
    """

    val: float | None = None
    test: float = TEST_SHARE
    seed: int = DEFAULT_SEED
    keep: bool = False

    def check(self) -> None:
        """Raise InputError for shares outside of 0 to 1."""
        for option, share in (("--val", self.val), ("--test", self.test)):
            if share is not None and not 0 <= share < 1:
                raise InputError(f"{option} must be at least 0 and below 1, got {share:g}", hint="Write 0.1 for 10%.")
        if self.seed < 0:
            raise InputError(f"--seed must not be negative, got {self.seed}")


def assign_splits(queries: Sequence[LabelledQuery], rule: SplitRule) -> list[str]:
    """Return the split of each query.

    A split that the source names is kept. Test queries are drawn only if the source names none, and so are validation
    queries. The latter are also drawn from the training queries that the source names.
    """
    given = {query.key: query.split for query in queries if query.split is not None}
    order = sorted({query.key for query in queries}, key=lambda key: (position(key, rule.seed), key))
    test = 0.0 if "test" in given.values() or (given and rule.keep) else rule.test
    out: dict[str, str] = {key: "test" if position(key, rule.seed) < test else "train" for key in order} | given
    if "val" not in given.values() and not (given and rule.keep):
        train = [key for key in order if out[key] == "train"]
        wanted = min(max(MIN_VAL, round(VAL_SHARE * len(out))), len(train) // 2)
        out |= dict.fromkeys(train[: wanted if rule.val is None else round(rule.val * len(out))], "val")
    return [out[query.key] for query in queries]


def position(key: str, seed: int) -> float:
    """Return the hash of a text key as a number in [0, 1)."""
    digest = hashlib.blake2b(f"{seed}|{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
