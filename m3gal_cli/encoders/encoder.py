"""Texts and places to vectors in bulk. Each distinct one is encoded once, so that equal rows get equal vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.core.token_batches import TokenTable
from m3gal_cli.core.tokenizer import TextTokenizer, max_positions

if TYPE_CHECKING:  # who encodes queries without torch does not wait for it
    import torch

    from m3gal_cli.core.checkpoint import Checkpoint

Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]
Text = TypeVar("Text", str, tuple[str, str])

# Tokens encoded at once: on a CPU more than the caches hold is slower, on a GPU fewer leave it idle.
BATCH_TOKENS = {"cpu": 2048, "mps": 16384, "cuda": 131072}


class QueryEncoder(Protocol):
    """What answering queries needs of a model."""

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        ...

    @property
    def device(self) -> Any:
        """Where it runs: a torch device, or the name of one."""
        ...

    def queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Query texts to unit vectors. Shape: N texts -> (N, D)."""
        ...


class TorchEncoder:
    """A checkpoint as three functions from rows to unit vectors of shape (N, D), float32.

    Args:
        checkpoint: model (put into evaluation mode and on ``device``) and tokenizer.
        batch_tokens: padded tokens encoded at once, in batches of like length; None: what suits the device.
        precision: fp32, bf16 (autocast) or auto (bf16 where the device has instructions for it).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        batch_tokens: int | None = None,
        precision: str = "fp32",
    ) -> None:
        import torch

        from m3gal_cli.core.bi_encoder import resolve_precision

        self.model = checkpoint.model
        self.device = torch.device(device)
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cpu"])
        self.precision = resolve_precision(precision, self.device)
        positions = max_positions(self.model.text_config)
        self.tokenize = TextTokenizer(checkpoint.tokenizer, self.model.settings, positions)

    @property
    def dim(self) -> int:
        return self.model.dim

    def queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Query texts to vectors, by the query encoder."""
        return self._texts(texts, self.model.settings.query_prefix, self.model.embed_query, progress)

    def poi_texts(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """POI texts to vectors, by the key encoder."""
        return self._texts(texts, self.model.settings.passage_prefix, self.model.embed_poi_text, progress)

    def locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Places in degrees to vectors, by the key location encoder; of the length that the score gives them."""
        import torch

        z = self.normalised(lng, lat)
        if not len(z):
            return np.zeros((0, self.dim), np.float32)
        distinct, inverse = np.unique(z, axis=0, return_inverse=True)
        out = np.empty((len(distinct), self.dim), np.float32)
        with self._inference():
            for start in range(0, len(distinct), 4096):
                part = torch.from_numpy(distinct[start : start + 4096]).to(self.device)
                out[start : start + 4096] = self.model.embed_poi_location(part).cpu().numpy()
        if (weight := self.model.settings.location_weight) != 1.0:
            out *= np.float32(weight)
        return out[inverse.reshape(-1)]

    def normalised(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.floating]:
        """Places in degrees as the location encoder sees them: where these are equal, so are the vectors.

        Shape: (N,), (N,) -> (N, 2).
        """
        return self.model.settings.normalizer(lng, lat)

    def _texts(
        self,
        texts: Sequence[str],
        prefix: str,
        embed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        progress: Progress | None,
    ) -> Vectors:
        import torch

        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        rows, inverse = self._distinct(texts, prefix, embed.__name__)
        out = np.empty((len(rows), self.dim), np.float32)
        done = 0
        with self._inference(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            for chosen in budgeted(rows.lengths, self.batch_tokens):
                ids, mask = rows.pad(chosen)
                out[chosen] = embed(ids.to(self.device), mask.to(self.device)).cpu().numpy()
                done += len(chosen)
                if progress is not None:
                    progress(done, len(rows))
        return out[inverse]

    def _distinct(self, texts: Sequence[str], prefix: str, kind: str) -> tuple[TokenTable, NDArray[np.int64]]:
        """Tokens of the distinct texts, and every text's number among them; ``kind`` names the encoder's method."""
        different, inverse = distinct(texts)
        return self.tokenize(different, prefix), inverse

    def _inference(self) -> torch.inference_mode:
        import torch

        self.model.to(self.device)
        self.model.eval()
        return torch.inference_mode()


def distinct(texts: Sequence[Text]) -> tuple[list[Text], NDArray[np.int64]]:
    """The different texts (or pairs), in the order in which they first come, and every one's number among them."""
    index: dict[Text, int] = {}
    inverse = np.array([index.setdefault(t, len(index)) for t in texts], np.int64)
    return list(index), inverse


def budgeted(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Rows by rising length in batches of at most ``budget`` padded tokens, one row at least.

    Shape:
        lengths: (N,) tokens -> row numbers, each of 0 .. N-1 once.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        own = lengths[order[start : start + budget]]
        fits = int(np.searchsorted(own * np.arange(1, len(own) + 1), budget, side="right"))
        yield order[start : start + max(1, fits)]
        start += max(1, fits)
