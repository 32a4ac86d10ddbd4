"""All settings of m3gal: names, types, defaults and descriptions. ``docs/reference/settings.md`` is made from them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# The loss names of the published code.
LOSS_NAMES = {"total_loss": "fused", "text_loss": "text", "location_loss": "location", "gc_loss": "location"}
Positive = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["auto", "fp32", "bf16"]


class Section(BaseModel):
    """A group of settings that refuses unknown keys and non-finite numbers."""

    model_config = ConfigDict(
        extra="forbid",
        coerce_numbers_to_str=True,
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class DataConfig(Section):
    """Input files."""

    dir: str = Field("data", description="Folder that is searched for files with the published names.")
    suffix: str | None = Field(None, description="Suffix of same_poi_views_SUFFIX.csv. Empty: the only view table.")
    test_suffix: str | None = Field(
        None, description="Suffix of {val,test}_dataset_use_gis_SUFFIX. Empty: data.suffix, else none."
    )
    views: str | None = Field(None, description="View table for pretraining. Empty: found by data.dir and data.suffix.")
    train: str | None = Field(None, description="Candidate records for finetuning. Empty: found in data.dir.")
    val: str | None = Field(None, description="Candidate records for validation. Empty: found in data.dir.")
    test: str | None = Field(None, description="Candidate records for the evaluations. Empty: found in data.dir.")
    labels: str | None = Field(
        None, description="Labels (query, poi_id) for finetuning or the evaluations, in place of candidate records."
    )
    poi: str | None = Field(None, description="POI table to search. Empty: found in data.dir.")
    datum: Literal["wgs84", "gcj02", "bd09"] = Field("wgs84", description="Datum of the coordinates in these files.")
    columns: str | None = Field(
        None, description="Columns of the POI table by role: 'name=title, lat=y, lng=x'. Empty: recognised by name."
    )
    skip_bad: bool = Field(
        False, description="Leave out invalid rows of POI tables and labels, and list them in STEM.bad.jsonl."
    )
    shuffle: bool = Field(True, description="Shuffle the rows in every epoch. false: keep the file order.")
    max_chars: int | None = Field(
        None, ge=1, description="Maximum characters of queries and passages of candidate records. Published: 64."
    )


class ScratchConfig(Section):
    """The untrained text encoder of model.text_encoder: scratch."""

    vocab_size: int = Field(6000, ge=100, description="Size of the WordPiece vocabulary, learned on the views.")
    hidden: int = Field(128, ge=8, description="Hidden size.")
    layers: int = Field(2, ge=1, description="Number of layers.")
    heads: int = Field(4, ge=1, description="Number of attention heads.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout probability.")


class NormalizerConfig(Section):
    """Mean and standard deviation of the coordinates, in degrees."""

    lng_mean: float
    lng_std: Positive
    lat_mean: float
    lat_std: Positive


class ModelConfig(Section):
    """The bi-encoder and the location encoder."""

    text_encoder: str | None = Field(
        None,
        description="transformers directory or hub name. scratch: a small encoder with its own vocabulary. Empty: the "
        "encoder of the packaged model, with its pooling, prefixes and max_length.",
    )
    pooling: Literal["pooler", "cls", "mean"] = Field("mean", description="Pooling of the token vectors.")
    append_sep: bool = Field(True, description="Append [SEP] to texts. The published tokenizer does not.")
    max_length: int = Field(64, ge=4, description="Maximum tokens per text; longer texts are cut.")
    query_prefix: str = Field("", description="Prefix of queries, e.g. 'query: '.")
    passage_prefix: str = Field("", description="Prefix of POI texts, e.g. 'passage: '.")
    location_encoder: Literal["mlp", "fourier"] = Field(
        "fourier", description="mlp (published), or multi-scale Fourier features with an MLP."
    )
    fourier_min_m: Positive = Field(200.0, description="Shortest wavelength of the Fourier features, in metres.")
    fourier_max_m: Positive = Field(200_000.0, description="Longest wavelength of the Fourier features, in metres.")
    location_weight: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Weight w of the location in the score q.k + w q.g'. Published: 1. Every new run sets it anew.",
    )
    normalizer: Literal["fit"] | NormalizerConfig = Field(
        "fit",
        description="z-score of coordinates. fit: computed from the training table; else lng_mean, lng_std, lat_mean "
        "and lat_std.",
    )
    scratch: ScratchConfig = ScratchConfig()


class MomentumConfig(Section):
    """Momentum contrast, the objective of pretraining."""

    queue_size: int = Field(16384, ge=1, description="Queue size K: number of past keys that serve as negatives.")
    queue_fill: Literal["random", "masked"] = Field(
        "masked",
        description="Initial queue. random: unit-length noise (published); masked: empty slots, which the softmax "
        "ignores.",
    )
    mask_same_place: bool = Field(True, description="Exclude keys of the query's own place from the negatives.")
    location_negatives: Literal["queue", "fresh"] = Field(
        "fresh",
        description="Encoder of the location negatives. queue: the key location encoder, at the time of enqueueing "
        "(published); fresh: the current location encoder, which also encodes the positive. With queue, the model can "
        "learn the difference between both encoders instead of the places.",
    )
    text: Momentum = Field(0.999, description="Momentum of the key text encoder.")
    location: Momentum = Field(0.999, description="Final momentum of the key location encoder.")
    location_increment: Momentum = Field(0.01, description="Increase of the location momentum per epoch, from 0.")
    temperature: Positive = Field(0.07, description="Softmax temperature T.")
    location_temperature: Positive | None = Field(
        None, description="Softmax temperature of the location loss with optim.loss: separate. Empty: temperature."
    )


class OptimConfig(Section):
    """Loss, optimiser and schedule."""

    name: Literal["sgd", "adamw"] = Field("adamw", description="Optimiser.")
    lr: Positive = Field(5e-4, description="Learning rate of the text encoders.")
    location_lr: Positive = Field(1e-3, description="Learning rate of the location encoder.")
    momentum: Momentum = Field(0.9, description="Momentum of SGD.")
    weight_decay: float = Field(
        0.01, ge=0, description="Weight decay of the text encoders. The published code has 0, through a typo."
    )
    location_weight_decay: float = Field(1e-4, ge=0, description="Weight decay of the location encoder.")
    schedule: list[int] = Field(
        default_factory=list, description="Epochs at which the learning rates are divided by 10, in rising order."
    )
    decay: Literal["none", "linear", "cosine"] = Field(
        "none", description="Decay of the learning rates to 0 over the run, in addition to optim.schedule."
    )
    warmup: float = Field(
        0.0, ge=0, lt=1, description="Fraction of the run in which the learning rates rise linearly from 0."
    )
    epochs: int = Field(10, ge=1, description="Number of epochs.")
    max_steps: int | None = Field(
        None, ge=0, description="Stop after this many steps. 0: save the initial model without training."
    )
    batch_size: int = Field(128, ge=1, description="View pairs (pretraining) or queries (finetuning) per step.")
    loss: Annotated[
        Literal["fused", "text", "location", "separate"],
        BeforeValidator(lambda v: LOSS_NAMES.get(v, v) if isinstance(v, str) else v),
    ] = Field(
        "fused",
        description="Loss. fused: cross-entropy of the sum of text and location logits (published: total_loss); text "
        "(published: text_loss) or location: one of them; separate: text loss plus location loss, where the location "
        "loss does not change the text encoders.",
    )
    clip: float | None = Field(None, gt=0, description="Maximum norm of the gradient. Empty: no clipping.")
    accumulate: int = Field(1, ge=1, description="Parts of a batch, processed one after another to save memory.")
    encode_chunk: int | None = Field(
        None, ge=1, description="Maximum texts with stored activations; others are recomputed, which saves memory."
    )
    precision: Precision = Field(
        "auto", description="bf16: autocast; auto: bf16 on devices with bf16 instructions, else fp32."
    )
    freeze: list[str] = Field(
        default_factory=list, description="Do not train parameters with one of these words in their name."
    )
    negatives: int | None = Field(
        None, ge=0, description="Finetuning: sampled negatives per query and epoch. Empty: all negatives of the record."
    )
    in_batch: bool = Field(
        False,
        description="Finetuning: also use the candidates of the other queries of the batch as negatives, gathered "
        "across all processes.",
    )
    soup_size: int = Field(
        1,
        ge=1,
        description="Finetuning: number of trainings in the model soup. They share the initial weights and use the "
        "seeds seed, seed + 1, …; the result is the mean of their weights.",
    )


class RunConfig(Section):
    """The run directory."""

    dir: str = Field("runs", description="Folder of the runs.")
    name: str | None = Field(None, description="Name of the run. Empty: command, date and time.")
    print_freq: int = Field(10, ge=1, description="Steps between two logged lines.")
    validate_every: int = Field(1, ge=1, description="Epochs between two validations, each with a checkpoint.")
    save_every: int | None = Field(None, ge=1, description="Steps between two checkpoints. Empty: only validations.")
    keep: int = Field(0, ge=0, description="Number of older checkpoints to keep besides the last and the best.")
    validation_queries: int = Field(1000, ge=1, description="Validation uses the first records, up to this number.")
    published_checkpoint: bool = Field(
        False, description="Also write checkpoint_EEEE_best.pth.tar in the published format."
    )
    tensorboard: bool = Field(True, description="Write TensorBoard events if tensorboard is installed.")


class EvalConfig(Section):
    """Evaluation and prediction."""

    batch_tokens: int | None = Field(None, ge=1, description="Padded tokens per encoding batch. Empty: by device.")
    precision: Precision = Field(
        "auto", description="Precision of text encoding. auto: bf16 on devices with bf16 instructions, else fp32."
    )
    sparse: bool = Field(True, description="Also evaluate the sparse score, a baseline without training.")
    rerank: bool = Field(
        True,
        description="Rerank the candidates with the reranker network. A training fits it at its end, on queries that "
        "are made from the POI table and on the validation records.",
    )
    top_k: int = Field(5, ge=1, description="predict: matches per query.")
    index: Literal["auto", "exact", "ann", "milvus"] = Field(
        "auto",
        description="predict: search method. auto: exact up to 1,000,000 POIs or on a GPU, else ann (approximate).",
    )
    index_dir: str | None = Field(
        None, description="predict: index folder. Empty: index/TABLE in the run, else in the working folder."
    )
    uri: str | None = Field(None, description="Milvus server (http://HOST:19530) or file of Milvus Lite.")
    recall: float = Field(
        0.95, gt=0, le=1, description="Target recall of approximate search against exact search. With 1, auto is exact."
    )
    encoder_runtime: Literal["auto", "torch", "onnx", "onnx-int8"] = Field(
        "auto",
        description="Runtime of the text encoder. auto: onnx-int8 for the packaged model on a CPU, else torch. For "
        "other models, onnx and onnx-int8 run the query encoder of predict, and need the extra onnx.",
    )


class Config(Section):
    """All settings."""

    seed: int = Field(2023, ge=0, description="Random seed for weights, data order, sampling and the bootstrap.")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1 or mps.")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    momentum: MomentumConfig = MomentumConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _schedule_rises(self) -> Config:
        if self.optim.schedule != sorted(self.optim.schedule):
            raise ValueError(f"--schedule (optim.schedule) must rise, got {self.optim.schedule}")
        return self

    @model_validator(mode="after")
    def _recall_of_approximate_search(self) -> Config:
        if self.eval.index == "ann" and self.eval.recall == 1:
            raise ValueError("--recall 1 needs --index exact; --index ann takes a value below 1, e.g. 0.99")
        return self
