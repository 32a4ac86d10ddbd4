"""Make the packaged model: views of all cities, pretraining, packing. Run by ``make model``.

Finished steps are skipped: delete their output in the work folder to repeat them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from evaluate import evaluate_city, table
from fit_reranker import fit_reranker
from pack import pack
from views import Mixture, join_views

from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL, find_checkpoint
from m3gal_cli.encoders.packaged_encoder import PackagedEncoder

HERE = Path(__file__).resolve().parent
# Public extracts of OpenStreetMap. Extracts with other sources must not be added.
CITIES: tuple[str, ...] = (
    "andorra",
    "beijing_tsinghua",
    "helsinki",
    "liechtenstein",
    "monaco",
    "nanjing_center",
    "oslo_center",
)
CITIES += ("shenzhen_longgang", "vancouver_center")


@dataclass(frozen=True)
class Training:
    """One of the trainings whose weights are averaged.

    Attributes:
        name: Name of its run.
        pairs: Largest number of pairs per place.
        mixture: The joined table.
        steps: Number of steps of 32 pairs.
        settings: Further settings, as ``KEY=VALUE``.
    """

    name: str
    pairs: int
    mixture: Mixture
    steps: int
    settings: tuple[str, ...] = ()


TRAININGS = (
    Training("short", 8, Mixture(5000, 0.25, 0.05), 900),
    # Nine cities share the queue: of 16,384 keys, some 2,000 are of the city of a query. To encode all locations of
    # such a queue anew would take a third of a step.
    Training(
        "long",
        24,
        Mixture(9000, 0.3, 0.08),
        1300,
        ("momentum.queue_size=16384", "momentum.location_negatives=queue"),
    ),
)


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=HERE.parents[1] / "shared", help="folder with data and models")
    parser.add_argument("--work", type=Path, default=HERE.parent / "build" / "model", help="folder of all other files")
    parser.add_argument("--evaluate", action="store_true", help="only evaluate the packaged model")
    given = parser.parse_args()
    base = given.shared / "models" / "e5-small-multilingual"
    if not given.evaluate:
        runs = [train(training, given.shared, given.work, base) for training in TRAININGS]
        pack([load_checkpoint(find_checkpoint(run)) for run in runs], str(base), PACKAGED_MODEL)
        fit_reranker(PACKAGED_MODEL, make_data(given.shared, given.work, TRAININGS[0].pairs))
    encoder = PackagedEncoder(PACKAGED_MODEL)
    print(table([evaluate_city(city, encoder) for city in make_data(given.shared, given.work, TRAININGS[0].pairs)]))


def make_data(shared: Path, work: Path, pairs: int) -> list[Path]:
    """Make views, POI table and records of every city, with this number of pairs per place; return the folders."""
    folders = [work / f"data-{pairs}" / city for city in CITIES]
    for city in folders:
        if not (city / f"test_dataset_use_gis_{city.name}.jsonl").exists():
            m3gal("data", "osm", shared / "data" / "osm" / f"{city.name}.osm.pbf", "--output", city, "--pairs", pairs)
    return folders


def train(training: Training, shared: Path, work: Path, base: Path) -> Path:
    """Join the views and pretrain; return the run. An interrupted training is continued."""
    joined = work / f"joined-{training.name}"
    if not (joined / "same_poi_views_joined.csv").exists():
        joined.mkdir(parents=True, exist_ok=True)
        print(join_views(make_data(shared, work, training.pairs), joined, training.mixture))
    data = ("--data-dir", joined, "--data-suffix", "joined")
    run = ("--runs-dir", work / "runs", "--run-name", training.name, "--resume", "auto", "--max-steps", training.steps)
    settings = [part for text in training.settings for part in ("--set", text)]
    m3gal("pretrain", "--config", HERE / "pretrain.yaml", "--text-encoder", base, *data, *run, *settings)
    return work / "runs" / training.name


def m3gal(*arguments: object) -> None:
    """Run a command of m3gal; exit if it fails."""
    command = [sys.executable, "-m", "m3gal_cli", *map(str, arguments)]
    print("m3gal", *arguments[:3], "…", flush=True)
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(code)


if __name__ == "__main__":
    main()
