"""Pairs of a query and a passage to scores, by a cross-encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.retrieval.embed import BATCH_TOKENS, Progress, budgeted, distinct

if TYPE_CHECKING:
    import torch

    from m3gal_cli.core.cross_checkpoint import CrossCheckpoint


class CrossScorer:
    """A cross-encoder as a function from pairs to scores. They order the passages of one query, and mean nothing else.

    Args:
        checkpoint: model (put into evaluation mode and on ``device``) and tokenizer.
        batch_tokens: padded tokens read at once, in batches of like length; None: what suits the device.
        precision: fp32, bf16 (autocast) or auto (bf16 where the device has instructions for it).
    """

    def __init__(
        self,
        checkpoint: CrossCheckpoint,
        device: torch.device | str = "cpu",
        batch_tokens: int | None = None,
        precision: str = "fp32",
    ) -> None:
        import torch

        from m3gal_cli.core.cross import PairTokenizer
        from m3gal_cli.core.model import resolve_precision

        self.model = checkpoint.model
        self.device = torch.device(device)
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cpu"])
        self.precision = resolve_precision(precision, self.device)
        self.tokenize = PairTokenizer(checkpoint.tokenizer, checkpoint.model)

    def scores(self, pairs: Sequence[tuple[str, str]], progress: Progress | None = None) -> NDArray[np.float32]:
        """Scores of (query, passage) pairs, higher is better. Equal pairs are read once, and get equal scores.

        Shape: n pairs -> (n,).
        """
        import torch

        if not len(pairs):
            return np.zeros(0, np.float32)
        different, inverse = distinct(pairs)
        rows = self.tokenize(different)
        out = np.empty(len(rows), np.float32)
        done = 0
        self.model.to(self.device).eval()
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, self.precision == "bf16"):
            for chosen in budgeted(rows.lengths, self.batch_tokens):
                chunk = (x.to(self.device) for x in rows.chunk(chosen))
                out[chosen] = self.model.pair_scores(*chunk).cpu().numpy()
                done += len(chosen)
                if progress is not None:
                    progress(done, len(rows))
        return out[inverse]
