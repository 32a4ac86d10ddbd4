"""sentence-transformers and transformers open the encoders of a checkpoint and give our vectors and token ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.sentence_transformers_export import standalone_tokenizer
from m3gal_cli.core.text_encoder import build_text_model
from m3gal_cli.core.tokenizer import TextTokenizer, max_positions
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from tests.helpers.toy_models import LONG_TEXTS, encode_both_sides, toy_checkpoint


def test_sentence_transformers_gives_our_vectors(saved_kinds: tuple[Path, Checkpoint]) -> None:
    path, checkpoint = saved_kinds
    settings = checkpoint.model.settings
    for name, own in encode_both_sides(checkpoint, LONG_TEXTS).items():
        other = SentenceTransformer(str(path / name), device="cpu")
        assert other.max_seq_length == settings.max_length
        assert abs(other.encode(LONG_TEXTS) - own).max() < 1e-6
        prefix = settings.query_prefix if name == "query_encoder" else settings.passage_prefix
        encode = other.encode_query if name == "query_encoder" else other.encode_document
        assert abs(encode(LONG_TEXTS) - own).max() < 1e-6
        assert abs(other.encode([prefix + text for text in LONG_TEXTS], prompt="") - own).max() < 1e-6


def test_the_saved_tokenizer_gives_our_token_ids(saved_kinds: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    """Test it also after the checkpoint was read and saved again."""
    path, checkpoint = saved_kinds
    settings = checkpoint.model.settings
    save_checkpoint(tmp_path / "again", load_checkpoint(path))
    wanted = [row.tolist() for row in TextTokenizer(checkpoint.tokenizer, settings, 512)(LONG_TEXTS)]
    for folder in (path, tmp_path / "again"):
        tokenizer = AutoTokenizer.from_pretrained(folder / "query_encoder")
        assert tokenizer.model_max_length == settings.max_length
        assert tokenizer(LONG_TEXTS, truncation=True)["input_ids"] == wanted
        assert [row.tolist() for row in TextTokenizer(tokenizer, settings, 512)(LONG_TEXTS)] == wanted


def test_a_bert_tokenizer_is_saved_without_sep_although_its_class_would_add_it(tmp_path: Path) -> None:
    vocabulary = toy_checkpoint().tokenizer.get_vocab()
    words = "\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n"
    (tmp_path / "vocab.txt").write_text(words, encoding="utf-8")
    bert = transformers.BertTokenizer.from_pretrained(tmp_path)
    wanted = TextTokenizer(bert, ModelSettings(append_sep=False, max_length=8), 512)(LONG_TEXTS)
    standalone_tokenizer(bert, False, 8).save_pretrained(tmp_path / "bare")
    ids = AutoTokenizer.from_pretrained(tmp_path / "bare")(LONG_TEXTS, truncation=True)["input_ids"]
    assert ids == [row.tolist() for row in wanted]


SIZES = {"vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 40}
PAD, EMBED = {"pad_token_id": 1}, {"embedding_size": 16}
FAMILIES: dict[str, dict[str, Any]] = {"Bert": {}, "DistilBert": {}, "ModernBert": {"pad_token_id": 0}}
FAMILIES |= {"Roberta": PAD, "XLMRoberta": PAD, "MPNet": PAD, "Electra": EMBED, "Albert": EMBED}


@pytest.mark.parametrize("family", FAMILIES)
def test_encoders_of_other_architectures_are_exported(tmp_path: Path, family: str) -> None:
    config = getattr(transformers, f"{family}Config")(**SIZES | FAMILIES[family])
    torch.manual_seed(0)
    text_model = build_text_model(config)
    has_pooler = getattr(text_model, "pooler", None) is not None
    tokenizer = toy_checkpoint().tokenizer
    model = M3gal(text_model, ModelSettings(pooling="pooler" if has_pooler else "cls", max_length=64))
    checkpoint = Checkpoint(model.eval(), tokenizer)
    save_checkpoint(tmp_path / "step", checkpoint)
    loaded = AutoModel.from_pretrained(tmp_path / "step" / "query_encoder")
    torch.testing.assert_close(loaded.state_dict(), dict(model.encoder_q.text_encoder.state_dict()), rtol=0, atol=0)
    other = SentenceTransformer(str(tmp_path / "step" / "query_encoder"), device="cpu")
    assert other.max_seq_length == max_positions(config)
    wanted = TorchEncoder(checkpoint).encode_queries(LONG_TEXTS)
    if config.pad_token_id == tokenizer.pad_token_id:  # else the toy's padding would shift the positions of RoBERTa
        assert abs(other.encode(LONG_TEXTS) - wanted).max() < 1e-6
    assert (TorchEncoder(load_checkpoint(tmp_path / "step")).encode_queries(LONG_TEXTS) == wanted).all()


def test_a_pooler_without_a_sentence_transformers_module_is_saved_for_transformers_only(tmp_path: Path) -> None:
    checkpoint = toy_checkpoint(pooling="pooler")
    for encoder in (checkpoint.model.encoder_q, checkpoint.model.encoder_k):
        encoder.text_encoder.pooler.activation = torch.nn.ReLU()
    save_checkpoint(tmp_path / "step", checkpoint)
    assert not (tmp_path / "step" / "query_encoder" / "modules.json").exists()
    assert "has no module for this encoder's pooler" in (tmp_path / "step" / "README.md").read_text(encoding="utf-8")
    load_checkpoint(tmp_path / "step")
