"""The finetunings of the board, and the hashes of the models that results belong to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quality.folds import Fold, write_fold
from quality.interface import short_hash
from quality.m3gal_methods import (
    COMMON_SETTINGS,
    delete_run,
    m3gal,
    model_hash,
    relevant_settings,
    run_options,
    set_options,
)

PROFILE = "geotes.yaml"


@dataclass(frozen=True)
class BoardTraining:
    """A finetuning from a model.

    Attributes:
        model: Initial checkpoint.
        folder: Folder for data, run and log.
    """

    model: str
    folder: Path

    def run(self, fold: Fold, seed: int) -> Path:
        """Finetune on a fold, or resume a killed finetuning, and return the run. Raises InputError."""
        run = self.folder / "run"
        if not (self.folder / "done").is_file():
            data = write_fold(fold, self.folder / "data")
            words = ["finetune", "--config", PROFILE, "--data-dir", data, "--seed", seed, *run_options(run)]
            words += [] if "--resume" in words else ["--init", self.model]
            m3gal(*words, *set_options(COMMON_SETTINGS), log=self.folder / "log.txt")
            (self.folder / "done").touch()
        return run

    def delete(self) -> None:
        """Delete the run and its data; the log stays."""
        (self.folder / "done").unlink()
        delete_run(self.folder)


def settings_hash(model: str) -> str:
    """Return a hash of what a finetuned model depends on besides fold and seed."""
    return short_hash([model_hash(model), relevant_settings(PROFILE, ())])
