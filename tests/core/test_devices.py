"""Devices, precisions and attention."""

from __future__ import annotations

import pytest
import torch

from m3gal_cli.core.devices import choose_attention, resolve_device, resolve_precision
from m3gal_cli.errors import InputError
from tests.helpers.toy_models import TEXTS, toy_checkpoint


def machine(monkeypatch: pytest.MonkeyPatch, gpus: int, mps: bool) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("gpus", "mps", "name", "wanted"),
    [(0, False, "auto", "cpu"), (0, True, "auto", "mps"), (2, False, "auto", "cuda"), (2, False, "cuda:1", "cuda:1")],
)
def test_device_names(monkeypatch: pytest.MonkeyPatch, gpus: int, mps: bool, name: str, wanted: str) -> None:
    machine(monkeypatch, gpus, mps)
    assert resolve_device(name) == torch.device(wanted)


@pytest.mark.parametrize(("gpus", "name"), [(0, "cuda"), (0, "mps"), (2, "cuda:2"), (0, "gpu"), (0, "meta")])
def test_a_missing_or_unknown_device_is_an_input_error(monkeypatch: pytest.MonkeyPatch, gpus: int, name: str) -> None:
    machine(monkeypatch, gpus, False)
    with pytest.raises(InputError, match=f"--device {name}: "):
        resolve_device(name)


@pytest.mark.parametrize(
    ("name", "device", "instructions", "wanted"),
    [
        ("auto", "cpu", False, "fp32"),
        ("bf16", "cpu", False, "fp32"),
        ("auto", "cuda", False, "fp32"),
        ("bf16", "cuda", False, "bf16"),
        ("auto", "mps", True, "fp32"),
    ],
)
def test_precision(monkeypatch: pytest.MonkeyPatch, name: str, device: str, instructions: bool, wanted: str) -> None:
    for check in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, check, lambda: instructions)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: instructions)
    assert resolve_precision(name, torch.device(device)) == wanted


@pytest.mark.parametrize(
    ("device", "precision", "wanted"), [("cpu", "fp32", "sdpa"), ("cpu", "bf16", "eager"), ("cuda", "bf16", "sdpa")]
)
def test_the_choice_of_attention_does_not_change_vectors(device: str, precision: str, wanted: str) -> None:
    checkpoint = toy_checkpoint()
    tokens = checkpoint.tokenizer(TEXTS, padding=True, return_tensors="pt")
    before = checkpoint.model.embed_query(tokens["input_ids"], tokens["attention_mask"])
    choose_attention(checkpoint.model, torch.device(device), precision)
    assert checkpoint.model.encoder_q.text_encoder.config._attn_implementation == wanted
    after = checkpoint.model.embed_query(tokens["input_ids"], tokens["attention_mask"])
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
