"""Makes a transformers directory one that sentence-transformers opens with the same vectors.

The files are those of sentence-transformers 2 to 6: module list, pooling, longest text, prompts.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from m3gal_cli.core.text_encoder import TextEncoder

TYPES = "sentence_transformers.models."
POOLINGS = ("cls", "mean", "max", "mean_sqrt_len")


def standalone_tokenizer(tokenizer: Any, append_sep: bool, max_length: int) -> Any:
    """A copy that gives a checkpoint's token ids without our TextTokenizer: cut at ``max_length``, padded right.

    Without ``append_sep`` the copy itself puts [CLS] before a text and no [SEP] behind it. A tokenizer written in
    Python cannot be told so and stays as it is.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    made = copy.deepcopy(tokenizer)
    if backend is not None and not append_sep:
        made = _without_sep(tokenizer, backend)
    made.model_max_length = max_length
    made.padding_side = made.truncation_side = "right"
    if backend is not None:  # what the last call cut and padded at is no property of the tokenizer
        made.backend_tokenizer.no_truncation()
        made.backend_tokenizer.no_padding()
    return made


def _without_sep(tokenizer: Any, backend: Any) -> Any:
    """A plain fast tokenizer: the class of a model (BertTokenizer, …) would put its own template back on loading."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    own, first = Tokenizer.from_str(backend.to_str()), tokenizer.cls_token
    head = f"{first} " if first is not None else ""
    special = [(first, tokenizer.cls_token_id)] if first is not None else []
    own.post_processor = processors.TemplateProcessing(
        single=f"{head}$A", pair=f"{head}$A $B:1", special_tokens=special
    )
    names = {name: value for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    return PreTrainedTokenizerFast(tokenizer_object=own, model_input_names=list(tokenizer.model_input_names), **names)


def expressible(encoder: TextEncoder) -> bool:
    """Whether sentence-transformers has modules for the encoder's pooling."""
    return encoder.pooling != "pooler" or pooler_layer(encoder.text_encoder) is not None


def write_modules(folder: Path, encoder: TextEncoder, prompts: dict[str, str], max_length: int) -> None:
    """Write what sentence-transformers reads beside the transformers files, if it is ``expressible``.

    Args:
        prompts: name -> prefix, at most one; it is put before every text unless the caller says otherwise.
    """
    if not expressible(encoder):
        return
    dim = int(encoder.text_encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
    chosen = "mean" if encoder.pooling == "mean" else "cls"
    pooling: dict[str, Any] = {"word_embedding_dimension": dim, "include_prompt": True}
    pooling |= {f"pooling_mode_{name}_{'token' if name == 'cls' else 'tokens'}": name == chosen for name in POOLINGS}
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    _write(folder / "1_Pooling" / "config.json", pooling)
    layer = pooler_layer(encoder.text_encoder)
    if encoder.pooling == "pooler" and layer is not None:
        modules.append(("2_Dense", "Dense"))
        _write_dense(folder / "2_Dense", layer)
    modules.append((f"{len(modules)}_Normalize", "Normalize"))
    (folder / modules[-1][0]).mkdir()
    rows = [{"idx": i, "name": str(i), "path": p, "type": TYPES + kind} for i, (p, kind) in enumerate(modules)]
    _write(folder / "modules.json", rows)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    default = next(iter(prompts), None)
    settings = {"model_type": "SentenceTransformer", "prompts": prompts, "default_prompt_name": default}
    _write(folder / "config_sentence_transformers.json", settings | {"similarity_fn_name": "dot"})


def pooler_layer(text_encoder: nn.Module) -> nn.Linear | None:
    """The one matrix of a BERT-like pooler (tanh of it, of the first token), or None where the pooler is another."""
    pooler = getattr(text_encoder, "pooler", None)
    layer = getattr(pooler, "dense", pooler)
    activation = getattr(pooler, "activation", getattr(text_encoder, "pooler_activation", None))
    return layer if isinstance(layer, nn.Linear) and isinstance(activation, nn.Tanh) else None


def _write_dense(folder: Path, layer: nn.Linear) -> None:
    settings = {"in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias is not None}
    _write(folder / "config.json", settings | {"activation_function": "torch.nn.modules.activation.Tanh"})
    state = {f"linear.{name}": value.detach().cpu().clone().contiguous() for name, value in layer.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
