"""Samples a second of a pretraining step, against the step that the published code takes, in the same run.

    python benchmarks/training.py --batch-size 64 --json
    python benchmarks/training.py --views hangzhou/same_poi_views_x.csv --text-encoder DIRECTORY --profile

Both sides start from the same weights and take the same rows, step by step in turn, so that whatever else the machine
does meets both. The published side is written here after its description: texts are tokenised inside the step and
padded to the batch's longest, rows come in file order, everything is float32 with eager attention, the key encoders
follow parameter by parameter, the queues are cloned, three cross entropies are taken, SGD walks over the parameters.
Ours is the trainer that ``m3gal pretrain`` runs, in float32 and in bf16; on a CPU without instructions for bf16
(``bf16_instructions`` false) it takes float32 for both, and so does this.

``ceiling_share`` is the arithmetic of the encoders (2 operations a weight and token forward, twice that backward, and
attention; padding counts for nothing) over what a product of two large matrices reaches on the same device in the same
precision.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from figures import parser_of, show
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.utils import logging

from m3gal_cli.config.load import load_config
from m3gal_cli.config.schema import Config
from m3gal_cli.core.bi_encoder import M3gal, choose_attention, has_bf16, resolve_device, resolve_precision
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_settings import ModelSettings, Normalizer
from m3gal_cli.core.text_encoder import load_text_model, load_tokenizer
from m3gal_cli.core.tiny_encoder import train_tokenizer
from m3gal_cli.core.tokenizer import TextTokenizer, max_positions
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.data.tables import read_views
from m3gal_cli.osm.build import OsmOptions, build_city
from m3gal_cli.training.objectives.momentum_contrast import PretrainTask
from m3gal_cli.training.pipelines import make_accelerator, with_place_ids
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.trainer import Quiet, Trainer

TEMPERATURE, M, LR = 0.07, 0.999, 0.01
MAX_LENGTH = 64


class Published(nn.Module):
    """The published step, as it is described: see the head of this file."""

    def __init__(self, model: M3gal, tokenizer: Any, views: pd.DataFrame, queue: int, device: torch.device) -> None:
        super().__init__()
        self.encoder_q, self.encoder_k = copy.deepcopy(model.encoder_q), copy.deepcopy(model.encoder_k)
        self.gc_encoder, self.gc_shadow = copy.deepcopy(model.gc_encoder), copy.deepcopy(model.gc_encoder_shadow)
        for encoder in (self.encoder_q, self.encoder_k):
            encoder.text_encoder.set_attn_implementation("eager")
        self.tokenizer, self.views, self.device, self.size = tokenizer, views, device, queue
        self.z = torch.from_numpy(model.settings.normalizer(views["lng"], views["lat"]))
        self.queue = F.normalize(torch.randn(model.dim, queue), dim=0)
        self.gc_queue, self.pointer = F.normalize(torch.randn(model.dim, queue), dim=0), 0
        self.to(device)
        self.queue, self.gc_queue = self.queue.to(device), self.gc_queue.to(device)
        groups = [{"params": list(self.gc_encoder.parameters()), "weight_decay": 1e-4}]
        groups += [{"params": [p for p in self.encoder_q.parameters() if p.requires_grad], "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=LR, momentum=0.9, foreach=False)
        self.train()

    def texts(self, rows: np.ndarray, column: str) -> tuple[Tensor, Tensor]:
        found = self.tokenizer(
            self.views[column].iloc[rows].tolist(), truncation=True, max_length=MAX_LENGTH, padding=True
        )
        return tuple(torch.tensor(found[name]).to(self.device) for name in ("input_ids", "attention_mask"))  # type: ignore[return-value]

    @torch.no_grad()
    def follow(self, key: nn.Module, online: nn.Module) -> None:
        for k, q in zip(key.parameters(), online.parameters(), strict=True):
            k.data = k.data * M + q.data * (1.0 - M)

    def logits(self, query: Tensor, positive: Tensor, queue: Tensor) -> Tensor:
        own = torch.einsum("nc,nc->n", query, positive).unsqueeze(-1)
        others = torch.einsum("nc,ck->nk", query, queue.clone().detach())
        return torch.cat([own, others], dim=1) / TEMPERATURE

    def step(self, rows: np.ndarray) -> Tensor:
        """One step of rows; returns the loss."""
        z = self.z[rows].to(self.device)
        query = self.encoder_q(*self.texts(rows, "address1"))
        location = F.normalize(self.gc_encoder(z), dim=-1)
        with torch.no_grad():
            self.follow(self.encoder_k, self.encoder_q)
            self.follow(self.gc_shadow, self.gc_encoder)
            key = self.encoder_k(*self.texts(rows, "address2"))
            key_location = F.normalize(self.gc_shadow(z), dim=-1)
        text, place = self.logits(query, key, self.queue), self.logits(query, location, self.gc_queue)
        target = torch.zeros(len(rows), dtype=torch.long, device=self.device)
        total, *_ = (F.cross_entropy(x, target) for x in (text + place, text, place))
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        slots = (self.pointer + torch.arange(len(rows), device=self.device)) % self.size
        self.queue[:, slots], self.gc_queue[:, slots] = key.T, key_location.T
        self.pointer = (self.pointer + len(rows)) % self.size
        return total.detach()


def ours(
    model: M3gal, tokenizer: Any, views: pd.DataFrame, config: Config, folder: Path
) -> Callable[[np.ndarray], Any]:
    """The step of ``m3gal pretrain`` over these weights and rows."""
    accelerator = make_accelerator(config)
    checkpoint = Checkpoint(copy.deepcopy(model), tokenizer)
    tokenize = TextTokenizer(tokenizer, model.settings, max_positions(model.encoder_q.text_encoder.config))
    task = PretrainTask(checkpoint.model, tokenize, views, config)
    choose_attention(
        checkpoint.model, accelerator.device, resolve_precision(config.optim.precision, accelerator.device)
    )
    trainer = Trainer(task, checkpoint, config, RunDirectory(folder), accelerator, Quiet())
    prepared = accelerator.prepare(checkpoint.model)
    return lambda rows: trainer.step(prepared, rows)


def timed(step: Callable[[np.ndarray], Any], rows: np.ndarray, device: torch.device) -> float:
    """Seconds of a step, the device's work done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step(rows)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a product of two large matrices: the best of several."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    seconds = min(timed(lambda _: a @ b, np.zeros(0), device) for _ in range(6))
    return 2 * n**3 / seconds


def operations(model: M3gal, lengths: tuple[np.ndarray, np.ndarray]) -> float:
    """Operations of the encoders for texts of these lengths: queries forward and backward, keys forward."""
    config = model.encoder_q.text_encoder.config
    hidden, layers, inner = config.hidden_size, config.num_hidden_layers, config.intermediate_size
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner)

    def forward(own: np.ndarray) -> float:
        return float((2 * weights * own + 4 * layers * hidden * own.astype(np.float64) ** 2).sum())

    return 3 * forward(lengths[0]) + forward(lengths[1])


def load_rows(path: Path | None, folder: Path) -> pd.DataFrame:
    """A view table, or that of the bundled sample city."""
    if path is None:
        build_city(copy_sample(folder), folder, OsmOptions(suffix="sample"))
        path = folder / "same_poi_views_sample.csv"
    return with_place_ids(read_views(path), path)


def new_model(options: argparse.Namespace, views: pd.DataFrame) -> tuple[M3gal, Any]:
    """A model of the shape asked for, with random weights, or of a text encoder's."""
    normalizer = Normalizer.fit(views["lng"], views["lat"])
    settings = ModelSettings(max_length=MAX_LENGTH, location_encoder="mlp", normalizer=normalizer)
    torch.manual_seed(0)
    if options.text_encoder:
        return M3gal(load_text_model(options.text_encoder), settings), load_tokenizer(options.text_encoder)
    tokenizer = train_tokenizer([*views["address1"], *views["address2"]], 8000)
    shape = BertConfig(
        vocab_size=21128,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // min(64, options.hidden),
        intermediate_size=4 * options.hidden,
    )
    return M3gal(BertModel(shape, add_pooling_layer=False), settings), tokenizer


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    device = resolve_device(options.device)
    views = load_rows(options.views, folder / "data")
    model, tokenizer = new_model(options, views)
    sets = [f"momentum.queue_size={options.queue}", f"optim.batch_size={options.batch_size}", "optim.name=sgd"]
    sets += [f"optim.lr={LR}", f"optim.location_lr={LR}", "momentum.location_negatives=queue", "optim.weight_decay=0"]
    sets += [f"device={options.device}", "momentum.queue_fill=random", "model.location_encoder=mlp"]
    sides: dict[str, Callable[[np.ndarray], Any]] = {}
    for precision in options.precision.split(","):
        config = load_config("osm.yaml", {}, [*sets, f"optim.precision={precision}"])
        sides[precision] = ours(model, tokenizer, views, config, folder / "run")
    published = Published(model, tokenizer, views, options.queue, device)
    sides = {"published": published.step, **sides}
    size, seconds = options.batch_size, {name: [] for name in sides}
    tokenize = TextTokenizer(tokenizer, model.settings, MAX_LENGTH)
    used = [np.arange(i * size, (i + 1) * size) % len(views) for i in range(options.steps + 1)]
    for i, rows in enumerate(used):
        for name, step in sides.items():
            spent = timed(step, rows, device)
            if i:  # the first step warms up
                seconds[name].append(spent)
    rate = {name: size / statistics.median(own) for name, own in seconds.items()}
    figures: dict[str, Any] = {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "bf16_instructions": has_bf16(),
    }
    figures |= {"batch_size": size, "queue": options.queue, "steps": options.steps}
    figures |= {"samples_per_second": {name: round(value, 2) for name, value in rate.items()}}
    figures |= {f"ratio_{name}": round(rate[name] / rate["published"], 3) for name in sides if name != "published"}
    lengths = [tuple(tokenize(views[c].iloc[r].tolist()).lengths for c in ("address1", "address2")) for r in used[1:]]
    for name in figures["samples_per_second"].keys() - {"published"}:
        top = ceiling(device, torch.bfloat16 if resolve_precision(name, device) == "bf16" else torch.float32)
        reached = statistics.fmean(operations(model, own) for own in lengths) / statistics.median(seconds[name])
        figures |= {f"ceiling_{name}_tflops": round(top / 1e12, 3), f"ceiling_share_{name}": round(reached / top, 6)}
    figures["ceiling_share"] = figures[f"ceiling_share_{'bf16' if 'bf16' in rate else 'fp32'}"]
    if options.profile:
        profile(next(reversed(sides.values())), used[1], device)
    return figures


def profile(step: Callable[[np.ndarray], Any], rows: np.ndarray, device: torch.device) -> None:
    """Where the time of a step goes, on stderr."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as trace

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with trace(activities=kinds) as found:
        timed(step, rows, device)
    by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(found.key_averages().table(sort_by=by, row_limit=20, max_name_column_width=60), file=sys.stderr)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--views", type=Path, help="view table (the bundled sample city's)")
    parser.add_argument("--text-encoder", help="transformers directory instead of random weights")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--queue", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=3, help="timed steps a side, after one that warms up")
    parser.add_argument("--precision", default="fp32,bf16", help="sides of ours: fp32, bf16 or both")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--profile", action="store_true", help="where a step of ours spends its time, on stderr")
    options = parser.parse_args()
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
    show(figures, options.json)


if __name__ == "__main__":
    main()
