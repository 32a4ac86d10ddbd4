"""The settings of m3gal: names, types, defaults and what they mean (the README's table is made from this)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

LOSS_NAMES = {"total_loss": "fused", "text_loss": "text", "location_loss": "location", "gc_loss": "location"}
Positive = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        coerce_numbers_to_str=True,
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class DataConfig(Section):
    """Where rows come from."""

    dir: str = Field("data", description="folder in which the published names are looked up")
    suffix: str | None = Field(
        None, description="views are same_poi_views_SUFFIX.csv; empty: the only one in the folder"
    )
    test_suffix: str | None = Field(
        None, description="validation and test sets are {val,test}_dataset_use_gis_SUFFIX; empty: as suffix, else none"
    )
    views: str | None = Field(None, description="view table, instead of the name that dir and suffix give")
    train: str | None = Field(None, description="candidate records to finetune on, instead of train_dataset_use_gis")
    val: str | None = Field(None, description="candidate records that choose the best checkpoint")
    test: str | None = Field(None, description="candidate records that the evaluations take")
    poi: str | None = Field(None, description="POI table that retrieval and predict search")
    datum: Literal["wgs84", "gcj02", "bd09"] = Field("wgs84", description="datum of the coordinates in these files")
    shuffle: bool = Field(True, description="new order every epoch; false: file order")
    max_chars: int | None = Field(
        None, ge=1, description="cut the query and passages of candidate records at so many characters (published: 64)"
    )


class ScratchConfig(Section):
    """The text encoder of model.text_encoder: scratch."""

    vocab_size: int = Field(6000, ge=100, description="WordPiece vocabulary, trained on the views")
    hidden: int = Field(128, ge=8, description="width")
    layers: int = Field(2, ge=1, description="layers")
    heads: int = Field(4, ge=1, description="attention heads")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout")


class NormalizerConfig(Section):
    """z-score of coordinates, degrees."""

    lng_mean: float
    lng_std: Positive
    lat_mean: float
    lat_std: Positive


class ModelConfig(Section):
    """The model."""

    text_encoder: str | None = Field(
        None, description="transformers directory or hub name; scratch: small, with its own vocabulary, untrained"
    )
    pooling: Literal["pooler", "cls", "mean"] = Field("mean", description="how tokens become one vector")
    append_sep: bool = Field(True, description="end texts with [SEP]; the published tokenizer does not")
    max_length: int = Field(64, ge=4, description="tokens a text is cut at")
    query_prefix: str = Field("", description="put before queries")
    passage_prefix: str = Field("", description="put before POI texts")
    location_encoder: Literal["mlp", "fourier"] = Field("fourier", description="mlp is the published one")
    fourier_min_m: Positive = Field(200.0, description="shortest wavelength of the fourier encoder, metres")
    fourier_max_m: Positive = Field(200_000.0, description="longest wavelength of the fourier encoder, metres")
    location_weight: float = Field(
        1.0, gt=0, le=1, description="w of the score q.k + w q.g' (published: 1); every new run sets it anew"
    )
    normalizer: Literal["fit"] | NormalizerConfig = Field(
        "fit", description="z-score of coordinates: fit on the training table, or lng_mean, lng_std, lat_mean, lat_std"
    )
    scratch: ScratchConfig = ScratchConfig()


class MomentumConfig(Section):
    """Momentum contrast."""

    queue_size: int = Field(16384, ge=1, description="K, past keys that serve as negatives")
    queue_fill: Literal["random", "masked"] = Field(
        "masked", description="start of the queue: unit noise (published), or empty slots left out of the softmax"
    )
    mask_same_place: bool = Field(True, description="keys of the row's own place are no negatives")
    location_negatives: Literal["queue", "fresh"] = Field(
        "fresh",
        description="queue: by the key location encoder, as they were (published); fresh: the same places by the "
        "location encoder as it is, like the positive: else the two encoders' difference is learned instead of places",
    )
    m: Momentum = Field(0.999, description="momentum of the key text encoder")
    m_location: Momentum = Field(0.999, description="momentum of the key location encoder, reached by the ramp")
    m_location_increment: Momentum = Field(0.01, description="growth of that momentum before every epoch, from 0")
    temperature: Positive = Field(0.07, description="T of both softmaxes")
    location_temperature: Positive | None = Field(
        None, description="T of the location's own softmax in the loss apart; empty: as temperature"
    )


class OptimConfig(Section):
    """Optimiser and schedule."""

    name: Literal["sgd", "adamw"] = Field("adamw", description="optimiser")
    lr: Positive = Field(5e-4, description="learning rate of the text encoders")
    location_lr: Positive = Field(1e-3, description="learning rate of the location encoder")
    momentum: Momentum = Field(0.9, description="of sgd")
    weight_decay: float = Field(0.01, ge=0, description="of the text group (published: 0, through a typo)")
    location_weight_decay: float = Field(1e-4, ge=0, description="of the location group")
    schedule: list[int] = Field(default_factory=list, description="epochs at which the rates fall to a tenth")
    decay: Literal["none", "linear", "cosine"] = Field(
        "none", description="decay to 0 over the run, on top of schedule"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the run over which the rates rise from 0")
    epochs: int = Field(10, ge=1, description="passes over the rows")
    max_steps: int | None = Field(
        None, ge=0, description="stop after so many steps, whatever the epochs; 0: save the model as it starts"
    )
    batch_size: int = Field(128, ge=1, description="rows (finetuning: queries) a step")
    loss: Annotated[
        Literal["fused", "text", "location", "separate"],
        BeforeValidator(lambda v: LOSS_NAMES.get(v, v) if isinstance(v, str) else v),
    ] = Field(
        "fused",
        description="what is minimised; total_loss and text_loss mean fused and text; separate: text and location each "
        "for itself, the location without changing the text encoders",
    )
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient")
    accumulate: int = Field(1, ge=1, description="parts that a batch is taken in, one after the other, to save memory")
    encode_chunk: int | None = Field(
        None, ge=1, description="texts whose activations are held at once; the rest is computed again (saves memory)"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="bf16: autocast; auto: bf16 where the device has instructions for it, else fp32"
    )
    freeze: list[str] = Field(default_factory=list, description="parameters with one of these words in their name stay")
    negatives: int | None = Field(None, ge=0, description="finetuning: negatives drawn a query and epoch; empty: all")
    in_batch: bool = Field(
        False,
        description="finetuning: candidates of the batch's other queries (of the own process, if several) are "
        "negatives too",
    )
    soup_size: int = Field(
        1,
        ge=1,
        description="finetuning: trained so many times from one start, in other orders and with other draws (seed, "
        "seed + 1, …); the model has the mean of their weights",
    )


class RunConfig(Section):
    """What a run leaves behind."""

    dir: str = Field("runs", description="folder of the runs")
    name: str | None = Field(None, description="name of the run; empty: command and time")
    print_freq: int = Field(10, ge=1, description="steps between two logged lines")
    validate_every: int = Field(1, ge=1, description="epochs between two validations (and checkpoints)")
    save_every: int | None = Field(
        None, ge=1, description="steps between two checkpoints, besides those at validations; empty: none besides"
    )
    keep: int = Field(0, ge=0, description="older checkpoints kept besides the last and the best one")
    validation_queries: int = Field(1000, ge=1, description="validation takes the first so many records")
    published_checkpoint: bool = Field(False, description="also write checkpoint_EEEE_best.pth.tar, the published form")
    tensorboard: bool = Field(True, description="write TensorBoard events if it is installed")


class EvalConfig(Section):
    """Evaluation and prediction."""

    batch_tokens: int | None = Field(
        None, ge=1, description="padded tokens encoded at once; empty: what suits the device"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of encoding texts; auto: bf16 where the device has instructions for it, else fp32"
    )
    bm25: bool = Field(True, description="add a BM25 row (character 1-2-grams) for honesty")
    rerank: bool = Field(
        True,
        description="score the best 1000 of a search again by words, neighbours and where the query was typed; its "
        "weights are learned on the validation records at the end of a training, of a finetuning near those that its "
        "training records teach before it",
    )
    top_k: int = Field(5, ge=1, description="matches a query in predict")
    index: Literal["auto", "exact", "ann", "milvus"] = Field(
        "auto", description="how predict searches; auto: exact up to 1,000,000 POIs or on a GPU, else ann (approximate)"
    )
    index_dir: str | None = Field(
        None, description="folder of the POIs' vectors; empty: index/TABLE in the run, else in the working folder"
    )
    uri: str | None = Field(None, description="Milvus: a server (http://HOST:19530) or a file of Milvus Lite")
    recall: float = Field(
        0.95,
        gt=0,
        le=1,
        description="share of the exact answer that an approximate search holds; with 1, auto means exact",
    )
    encoder_runtime: Literal["torch", "onnx", "onnx-int8"] = Field(
        "torch", description="what encodes queries in predict; onnx and onnx-int8 need the extra onnx"
    )


class Config(Section):
    """All settings."""

    seed: int = Field(2023, ge=0, description="of weights, order, sampling and bootstrap")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1, mps")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    momentum: MomentumConfig = MomentumConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _schedule_rises(self) -> Config:
        if self.optim.schedule != sorted(self.optim.schedule):
            raise ValueError(f"optim.schedule must rise, got {self.optim.schedule}")
        return self

    @model_validator(mode="after")
    def _all_is_exact(self) -> Config:
        if self.eval.index == "ann" and self.eval.recall == 1:
            raise ValueError("eval.recall 1 is what eval.index exact gives; ann takes a share below 1, e.g. 0.99")
        return self
