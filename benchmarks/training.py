"""Measure samples per second of a pretraining step, against the step of the published code.

    python benchmarks/training.py --batch-size 64 --json
    python benchmarks/training.py --views hangzhou/same_poi_views_x.csv --text-encoder DIRECTORY --profile

Both steps start from the same weights and use the same rows. They alternate, so other load on the machine affects both.
The published step is reimplemented here from its description: it tokenises texts inside the step, pads to the longest
text, takes rows in file order, and uses float32 with eager attention. It updates the key encoders parameter by
parameter, clones the queues, and computes three cross entropies; SGD loops over the parameters. The step of m3gal is
that of ``m3gal pretrain``, in float32 and in bf16. On a CPU without bf16 instructions (``bf16_instructions`` false)
m3gal uses float32 for both.

``ceiling_share`` is the arithmetic rate of the encoders over the rate of a product of two large matrices on the same
device in the same precision. It counts 2 operations per weight and token forward, twice that backward, and attention;
padding does not count.
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
from command_line import create_parser, print_values
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.utils import logging

from m3gal_cli.config.load import load_config
from m3gal_cli.config.schema import Config
from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.devices import choose_attention, has_bf16, resolve_device, resolve_precision
from m3gal_cli.core.model_settings import ModelSettings, Normalizer
from m3gal_cli.core.text_encoder import load_text_model, load_tokenizer
from m3gal_cli.core.tiny_encoder import train_tokenizer
from m3gal_cli.core.tokenizer import TextTokenizer, max_positions
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.data.tables import read_views
from m3gal_cli.osm.build import OsmOptions, build_city
from m3gal_cli.training.accelerator import make_accelerator
from m3gal_cli.training.listener import Listener
from m3gal_cli.training.objectives.momentum_contrast import MomentumContrast
from m3gal_cli.training.pipelines import with_place_ids
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.trainer import Trainer

TEMPERATURE, M, LR = 0.07, 0.999, 0.01
MAX_LENGTH = 64


class PublishedStep(nn.Module):
    """The published pretraining step, as the module docstring describes it."""

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

    def tokenize(self, rows: np.ndarray, column: str) -> tuple[Tensor, Tensor]:
        tokens = self.tokenizer(
            self.views[column].iloc[rows].tolist(), truncation=True, max_length=MAX_LENGTH, padding=True
        )
        return tuple(torch.tensor(tokens[name]).to(self.device) for name in ("input_ids", "attention_mask"))  # type: ignore[return-value]

    @torch.no_grad()
    def update_key(self, key: nn.Module, online: nn.Module) -> None:
        for k, q in zip(key.parameters(), online.parameters(), strict=True):
            k.data = k.data * M + q.data * (1.0 - M)

    def logits(self, query: Tensor, positive: Tensor, queue: Tensor) -> Tensor:
        own = torch.einsum("nc,nc->n", query, positive).unsqueeze(-1)
        others = torch.einsum("nc,ck->nk", query, queue.clone().detach())
        return torch.cat([own, others], dim=1) / TEMPERATURE

    def step(self, rows: np.ndarray) -> Tensor:
        """Train on these rows and return the loss."""
        z = self.z[rows].to(self.device)
        query = self.encoder_q(*self.tokenize(rows, "address1"))
        location = F.normalize(self.gc_encoder(z), dim=-1)
        with torch.no_grad():
            self.update_key(self.encoder_k, self.encoder_q)
            self.update_key(self.gc_shadow, self.gc_encoder)
            key = self.encoder_k(*self.tokenize(rows, "address2"))
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


def m3gal_trainer(
    model: M3gal, tokenizer: Any, views: pd.DataFrame, config: Config, folder: Path
) -> tuple[Trainer, Callable[[np.ndarray], Any]]:
    """Return the trainer of ``m3gal pretrain`` with these weights and views, and its step over rows."""
    accelerator = make_accelerator(config)
    checkpoint = Checkpoint(copy.deepcopy(model), tokenizer)
    tokenize = TextTokenizer(tokenizer, model.settings, max_positions(model.encoder_q.text_encoder.config))
    objective = MomentumContrast(checkpoint.model, tokenize, views, config)
    choose_attention(
        checkpoint.model, accelerator.device, resolve_precision(config.optim.precision, accelerator.device)
    )
    trainer = Trainer(objective, checkpoint, config, RunDirectory(folder), accelerator, Listener())
    prepared = accelerator.prepare(checkpoint.model)
    return trainer, lambda rows: trainer.step(prepared, rows)


def timed(step: Callable[[np.ndarray], Any], rows: np.ndarray, device: torch.device) -> float:
    """Return the seconds of a step, with the work of the device finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step(rows)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of a product of two large matrices, best of six."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    seconds = min(timed(lambda _: a @ b, np.zeros(0), device) for _ in range(6))
    return 2 * n**3 / seconds


def operations(model: M3gal, lengths: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the operations of the encoders for texts of these lengths: queries forward and backward, keys forward."""
    config = model.encoder_q.text_encoder.config
    hidden, layers, inner = config.hidden_size, config.num_hidden_layers, config.intermediate_size
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner)

    def forward(own: np.ndarray) -> float:
        return float((2 * weights * own + 4 * layers * hidden * own.astype(np.float64) ** 2).sum())

    return 3 * forward(lengths[0]) + forward(lengths[1])


def load_rows(path: Path | None, folder: Path) -> pd.DataFrame:
    """Return a view table, by default that of the bundled sample city."""
    if path is None:
        build_city(copy_sample(folder), folder, OsmOptions(suffix="sample"))
        path = folder / "same_poi_views_sample.csv"
    return with_place_ids(read_views(path), path)


def new_model(options: argparse.Namespace, views: pd.DataFrame) -> tuple[M3gal, Any]:
    """Return a model with the given text encoder, or with random weights of the given shape."""
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
    """Return all measured values."""
    device = resolve_device(options.device)
    views = load_rows(options.views, folder / "data")
    model, tokenizer = new_model(options, views)
    sets = [f"momentum.queue_size={options.queue}", f"optim.batch_size={options.batch_size}", "optim.name=sgd"]
    sets += [f"optim.lr={LR}", f"optim.location_lr={LR}", "momentum.location_negatives=queue", "optim.weight_decay=0"]
    sets += [f"device={options.device}", "momentum.queue_fill=random", "model.location_encoder=mlp"]
    sides: dict[str, Callable[[np.ndarray], Any]] = {}
    for precision in options.precision.split(","):
        config = load_config("osm.yaml", {}, [*sets, f"optim.precision={precision}"])
        sides[precision] = m3gal_trainer(model, tokenizer, views, config, folder / "run")[1]
    published = PublishedStep(model, tokenizer, views, options.queue, device)
    sides = {"published": published.step, **sides}
    size, seconds = options.batch_size, {name: [] for name in sides}
    tokenize = TextTokenizer(tokenizer, model.settings, MAX_LENGTH)
    used = [np.arange(i * size, (i + 1) * size) % len(views) for i in range(options.steps + 1)]
    for i, rows in enumerate(used):
        for name, step in sides.items():
            spent = timed(step, rows, device)
            if i:  # the first step is a warm-up
                seconds[name].append(spent)
    rate = {name: size / statistics.median(own) for name, own in seconds.items()}
    values: dict[str, Any] = {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "bf16_instructions": has_bf16(),
    }
    values |= {"batch_size": size, "queue": options.queue, "steps": options.steps}
    values |= {"samples_per_second": {name: round(value, 2) for name, value in rate.items()}}
    values |= {f"ratio_{name}": round(rate[name] / rate["published"], 3) for name in sides if name != "published"}
    lengths = [tuple(tokenize(views[c].iloc[r].tolist()).lengths for c in ("address1", "address2")) for r in used[1:]]
    for name in values["samples_per_second"].keys() - {"published"}:
        top = ceiling(device, torch.bfloat16 if resolve_precision(name, device) == "bf16" else torch.float32)
        reached = statistics.fmean(operations(model, own) for own in lengths) / statistics.median(seconds[name])
        values |= {f"ceiling_{name}_tflops": round(top / 1e12, 3), f"ceiling_share_{name}": round(reached / top, 6)}
    values["ceiling_share"] = values[f"ceiling_share_{'bf16' if 'bf16' in rate else 'fp32'}"]
    if options.profile:
        profile(next(reversed(sides.values())), used[1], device)
    return values


def profile(step: Callable[[np.ndarray], Any], rows: np.ndarray, device: torch.device) -> None:
    """Print the time of a step by operation to stderr."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as trace

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with trace(activities=kinds) as profiler:
        timed(step, rows, device)
    by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=by, row_limit=20, max_name_column_width=60), file=sys.stderr)


def main() -> None:
    """Run the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--views", type=Path, help="view table (default: that of the bundled sample city)")
    parser.add_argument("--text-encoder", help="transformers directory (default: random weights)")
    parser.add_argument("--layers", type=int, default=12, help="layers of the random encoder (%(default)s)")
    parser.add_argument("--hidden", type=int, default=768, help="width of the random encoder (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="pairs per step (%(default)s)")
    parser.add_argument("--queue", type=int, default=16384, help="size of the queues (%(default)s)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after a warm-up step (%(default)s)")
    parser.add_argument(
        "--precision", default="fp32,bf16", help="precisions of m3gal: fp32, bf16 or both (%(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument(
        "--profile", action="store_true", help="print the time of a step of m3gal by operation to stderr"
    )
    options = parser.parse_args()
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        values = measure(options, Path(folder))
    print_values(values, options.json)


if __name__ == "__main__":
    main()
