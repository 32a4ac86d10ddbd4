"""Add files to a transformers directory so that sentence-transformers opens it with the same vectors.

The files are those of sentence-transformers 2 to 6: module list, pooling, maximum length, prompts.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from m3gal_cli.core.text_encoder import TextEncoder
from m3gal_cli.files import write_json

TYPES = "sentence_transformers.models."
POOLINGS = ("cls", "mean", "max", "mean_sqrt_len")


def standalone_tokenizer(tokenizer: Any, append_sep: bool, max_length: int) -> Any:
    """Return a copy that gives the token ids of ``TextTokenizer`` by itself: truncated and padded on the right.

    Without ``append_sep`` the copy adds [CLS] before a text and no [SEP] after it. A tokenizer without a backend, which
    is written in Python, always adds [SEP].
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    made = copy.deepcopy(tokenizer) if backend is None or append_sep else _without_sep(tokenizer, backend)
    made.model_max_length = max_length
    made.padding_side = made.truncation_side = "right"
    if backend is not None:  # the backend stores the truncation and padding of its last call
        made.backend_tokenizer.no_truncation()
        made.backend_tokenizer.no_padding()
    return made


def _without_sep(tokenizer: Any, backend: Any) -> Any:
    """Return a PreTrainedTokenizerFast. A class such as BertTokenizer would add [SEP] again when it is loaded."""
    own, cls = Tokenizer.from_str(backend.to_str()), tokenizer.cls_token
    start = f"{cls} " if cls is not None else ""
    special = [(cls, tokenizer.cls_token_id)] if cls is not None else []
    own.post_processor = processors.TemplateProcessing(
        single=f"{start}$A", pair=f"{start}$A $B:1", special_tokens=special
    )
    names = {name: value for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    return PreTrainedTokenizerFast(tokenizer_object=own, model_input_names=list(tokenizer.model_input_names), **names)


def is_exportable(encoder: TextEncoder) -> bool:
    """Return whether sentence-transformers has modules for the encoder's pooling."""
    return encoder.pooling != "pooler" or pooler_layer(encoder.text_encoder) is not None


def write_modules(folder: Path, encoder: TextEncoder, prompts: dict[str, str], max_length: int) -> None:
    """Write the files of sentence-transformers into a transformers directory, if the encoder ``is_exportable``.

    ``prompts`` holds at most one prefix, which becomes the default prompt, by its name.
    """
    if not is_exportable(encoder):
        return
    dim = int(encoder.text_encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
    chosen = "mean" if encoder.pooling == "mean" else "cls"
    pooling: dict[str, Any] = {"word_embedding_dimension": dim, "include_prompt": True}
    pooling |= {f"pooling_mode_{name}_{'token' if name == 'cls' else 'tokens'}": name == chosen for name in POOLINGS}
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", pooling)
    layer = pooler_layer(encoder.text_encoder)
    if encoder.pooling == "pooler" and layer is not None:
        modules.append(("2_Dense", "Dense"))
        _write_dense(folder / "2_Dense", layer)
    modules.append((f"{len(modules)}_Normalize", "Normalize"))
    (folder / modules[-1][0]).mkdir()
    rows = [{"idx": i, "name": str(i), "path": p, "type": TYPES + kind} for i, (p, kind) in enumerate(modules)]
    write_json(folder / "modules.json", rows)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    default = next(iter(prompts), None)
    settings = {"model_type": "SentenceTransformer", "prompts": prompts, "default_prompt_name": default}
    write_json(folder / "config_sentence_transformers.json", settings | {"similarity_fn_name": "dot"})


def pooler_layer(text_encoder: nn.Module) -> nn.Linear | None:
    """Return the layer of a BERT-like pooler, tanh(W x + b) of the first token, or None for any other pooler."""
    pooler = getattr(text_encoder, "pooler", None)
    layer = getattr(pooler, "dense", pooler)
    activation = getattr(pooler, "activation", getattr(text_encoder, "pooler_activation", None))
    return layer if isinstance(layer, nn.Linear) and isinstance(activation, nn.Tanh) else None


def _write_dense(folder: Path, layer: nn.Linear) -> None:
    folder.mkdir()
    settings = {"in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias is not None}
    write_json(folder / "config.json", settings | {"activation_function": "torch.nn.modules.activation.Tanh"})
    save_weights(layer, folder / "model.safetensors", "linear.")


def save_weights(module: nn.Module, path: Path, prefix: str = "") -> None:
    """Write the weights of a module to a safetensors file that all users may read; ``prefix`` precedes the names."""
    state = {prefix + k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes files readable only by their owner
