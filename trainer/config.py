"""The trainer's configuration."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.config import Config, Unrecorded, fault_at
from schemas.names import Name
from schemas.paths import LocalFolder, PathOrUrl, PathsOrUrls

Moment = Annotated[float, Field(ge=0, lt=1)]
Value = bool | int | float | str | None


class StudentConfig(Config):
    """The student's shape and its initial weights, which are random by default."""

    former_names: ClassVar = {"like": "architecture_from"}

    architecture_from: PathOrUrl | None = Field(
        None, description="local folder or hub id of a model whose shape (configuration) the student takes"
    )
    start_from: PathOrUrl | None = Field(
        None,
        description="the model whose shape and weights the student continues from: the local folder or hub id of an "
        "earlier student, whose vocabulary the predictions' vocabulary extends, or the name of a teacher in the "
        "predictions. Rows of tokens that this model lacks start at random, or as `embeddings_from_teachers` says",
    )
    revision: str | None = Field(None, description="branch, tag or commit of `architecture_from` or `start_from`")
    encoder_from: Name | None = Field(
        None,
        description="name, in the predictions, of the teacher whose layers, positions and head transform the student "
        "starts from. It must have the same family and width as the student, and be at least as deep (evenly spread "
        "layers are taken)",
    )
    embeddings_from_teachers: bool = Field(
        False,
        description="embedding and output-bias rows start from the teachers that own the token, averaged if several "
        "do; teachers of another width contribute none, unless `token_alignment` can map their rows",
    )
    token_alignment: Literal["none", "orthogonal", "least_squares", "omp"] = Field(
        "none",
        # Left out of the run's record at its default, so that runs from before this field can resume.
        exclude_if=lambda alignment: alignment == "none",
        description="with `embeddings_from_teachers`: how token rows are mapped into the space of one model before "
        "they are averaged. That model is the one of `start_from`, the teacher of `encoder_from`, or the first "
        "teacher; its own rows are taken unchanged. The tokens that both models have decide the map: a rotation "
        "(`orthogonal`), a linear map (`least_squares`), or sparse combinations of these tokens (`omp`)",
    )
    settings: dict[str, Value] = Field(
        {},
        description="fields of the transformers configuration, which override those of `architecture_from`; without "
        "it, `model_type` is required (e.g. bert, xlm-roberta). Vocabulary size and special ids are set for you",
    )

    @model_validator(mode="after")
    def _shape(self):
        if self.token_alignment != "none" and not self.embeddings_from_teachers:
            raise ValueError(
                "token_alignment maps the teachers' token rows: set embeddings_from_teachers to true, or leave token_alignment out"
            )
        if self.start_from is not None:
            for field in ("architecture_from", "settings", "encoder_from"):
                if getattr(self, field):
                    raise ValueError(f"`start_from` already gives the student's shape and weights: leave out `{field}`")
        elif self.architecture_from is None and "model_type" not in self.settings:
            raise ValueError(
                "no shape is given: set `architecture_from` (a model whose shape to take), a `model_type` in `settings`, or `start_from`"
            )
        elif self.architecture_from is None and self.revision is not None:
            raise ValueError(
                "`revision` is that of `architecture_from` or `start_from`: set one of them, or leave it out"
            )
        return self


class SamplingConfig(Config):
    """What is read, and in which proportions."""

    alpha: float = Field(
        0.7,
        ge=0,
        le=1,
        description="languages are drawn in proportion to p^alpha, where p is their share of the masked positions: 1 "
        "keeps the shares, 0 draws evenly",
    )
    languages: list[Name] | None = Field(
        None, min_length=1, description="read only these languages; default: all in the predictions"
    )
    shuffle_rows: int = Field(
        8192,
        ge=1,
        description="rows that are shuffled and grouped by length together; a process holds at least two such pools in memory for each "
        "of its micro-batches",
    )


class StageConfig(Config):
    """A part of the run that reads other predictions, or draws languages in other proportions."""

    until: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of max_steps after which the next stage begins; leave it out of the last stage",
    )
    predictions: PathsOrUrls | None = Field(
        None,
        description="predictions to read instead of the run's; they must have the same vocabulary, teachers and languages",
    )
    alpha: float | None = Field(None, ge=0, le=1, description="replaces `sampling.alpha`")


class LanguageWeight(Config):
    """A separate lambda for one language."""

    former_names: ClassVar = {"weight": "kd_weight", "final_weight": "final_kd_weight"}

    kd_weight: float = Field(ge=0, le=1, description="lambda")
    final_kd_weight: float | None = Field(None, ge=0, le=1, description="lambda at the last step; default: constant")


class DistillationConfig(Config):
    """loss = lambda * KD + (1 - lambda) * MLM, in nats per masked position (`trainer.loss.objective`)."""

    former_names: ClassVar = LanguageWeight.former_names | {"confidence": "confidence_power"}

    kd_weight: float = Field(0.5, ge=0, le=1, description="lambda; 0 is plain masked-LM training")
    final_kd_weight: float | None = Field(
        None, ge=0, le=1, description="lambda at the last step (from 1 to 0 is teacher annealing); default: constant"
    )
    schedule: Literal["linear", "cosine"] = Field(
        "linear", description="how lambda changes from `kd_weight` to `final_kd_weight`"
    )
    languages: dict[Name, LanguageWeight] = Field({}, description="languages that have their own lambda")
    confidence_power: float = Field(
        0,
        ge=0,
        description="lambda is multiplied by the teacher's probability of the gold token to this power; 0 turns this "
        "off",
    )
    tail: Literal["bucket", "renormalize", "ignore", "sampled"] = Field(
        "bucket",
        description="how to treat the probability outside the teacher's top-k: `bucket` makes it one additional class, "
        "`renormalize` (the paper's) makes the top-k a distribution, `ignore` drops it, `sampled` estimates it "
        "without bias from the predictions' tail_samples",
    )
    temperature: float = Field(
        1, gt=0, description="divides the logits of teacher and student in KD; KD is multiplied by its square"
    )
    normalize: Literal["merged", "teacher"] = Field(
        "merged",
        description="the student's probabilities in KD are over the whole merged vocabulary (`merged`), or over the "
        "part that the row's teacher owns (`teacher`)",
    )

    @model_validator(mode="after")
    def _confidence(self):
        if self.confidence_power and not self.distils:
            raise ValueError(
                "confidence_power multiplies lambda, which is 0: set `kd_weight` above 0, or leave confidence_power out"
            )
        return self

    @model_validator(mode="after")
    def _temperature(self):
        if self.tail == "ignore" and self.temperature != 1:
            raise ValueError(
                "tail `ignore` leaves no distribution for a temperature: set temperature to 1 or choose another tail"
            )
        if self.tail == "sampled" and self.temperature != 1:
            raise ValueError(
                "tail `sampled` uses samples that were drawn at temperature 1: set temperature to 1 or choose another tail"
            )
        return self

    @property
    def distils(self) -> bool:
        """Whether lambda is ever more than 0."""
        return any(weight.kd_weight or weight.final_kd_weight for weight in self.weights)

    @property
    def reads_samples(self) -> bool:
        """Whether the predictions' samples of the tail are read."""
        return self.distils and self.tail == "sampled"

    @property
    def weights(self) -> "list[DistillationConfig | LanguageWeight]":
        """The sections with a lambda: this one for all languages, and those of single languages."""
        return [self, *self.languages.values()]


class OptimizerConfig(Config):
    """AdamW, with linear warm-up and then decay to zero."""

    former_names: ClassVar = {"schedule": "lr_scheduler_type", "clip_norm": "max_grad_norm"}

    learning_rate: float = Field(5e-4, gt=0, lt=1, description="the learning rate at the end of the warm-up")
    warmup_steps: int = Field(0, ge=0, description="optimizer steps of linear warm-up")
    lr_scheduler_type: Literal["linear", "cosine", "constant_with_warmup"] = Field(
        "linear", description="how the learning rate decays after the warm-up"
    )
    weight_decay: float = Field(0.01, ge=0, description="not applied to biases and norms")
    betas: tuple[Moment, Moment] = Field((0.9, 0.98), description="decay rates of AdamW's two moments")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this global norm")


class ModelCardConfig(Config):
    """What the student's model card says that the trainer cannot know."""

    license: str | None = Field(
        None,
        description="the student's licence, by its name on the hub; default: the teachers' licence, if all have the same",
    )
    datasets: list[str] = Field([], description="hub ids of the data sets that the student was trained on")


class TrainerConfig(Config):
    """Stage two: from predictions to a student."""

    former_names: ClassVar = {
        "steps": "max_steps",
        "shard": "fsdp",
        "compile": "torch_compile",
        "readers": "reader_threads",
        "log_every": "logging_steps",
        "evaluate_every": "eval_steps",
        "patience": "early_stopping_patience",
        "checkpoint_every": "save_steps",
        "keep_checkpoints": "save_total_limit",
    }

    output: Unrecorded[LocalFolder] = Field(description="local folder for the student, its checkpoints and its logs")
    predictions: Unrecorded[PathsOrUrls] = Field(
        description="folder or fsspec URL that the pipeline wrote, or a list of a folder and those that extend it"
    )
    heldout: Unrecorded[PathsOrUrls | None] = Field(
        None,
        description="folders of predictions to evaluate on, never to train on. They have the same vocabulary as `predictions`, "
        "or one that it extends",
    )
    student: StudentConfig
    sampling: SamplingConfig = SamplingConfig()
    stages: Unrecorded[list[StageConfig]] = Field(
        [],
        description="parts of the run, one after the other, each with its own predictions or sampling exponent: e.g. a "
        "masking rate that falls. Default: one stage, with the fields above",
    )
    distillation: DistillationConfig = DistillationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    max_steps: int = Field(ge=1, description="optimizer steps of the whole run")
    batch_tokens: int = Field(8192, ge=1, description="most tokens, with padding, in a micro-batch")
    micro_batches: int | None = Field(
        None,
        ge=1,
        description="micro-batches per optimizer step, over all processes; a multiple of the number of processes. "
        "Default: one for each process that the run starts with. The run may resume with fewer or more processes, if "
        "the micro-batches divide evenly among them",
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="decides initial weights, data order (different in each stage) and dropout"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="precision of the matrix products; auto is bfloat16 on a GPU that supports it or a CPU with AMX or "
        "AVX512-BF16, else float32. Weights stay float32",
    )
    fsdp: Unrecorded[bool] = Field(
        False,
        description="shard weights, gradients and moments over the processes (FSDP2) instead of copying them to each, "
        "for students that do not fit on one GPU",
    )
    gradient_checkpointing: Unrecorded[bool] = Field(
        False,
        description="layers keep only their inputs, and compute the rest again in the backward pass: slower, but takes "
        "less memory",
    )
    torch_compile: bool = Field(
        False,
        description="use torch.compile for the student's layers and the loss; needs a C compiler, or on a CPU a C++ "
        "compiler",
    )
    max_skipped_steps: Unrecorded[int] = Field(
        10, ge=0, description="steps whose gradient is NaN or infinite are skipped; more than this many stop the run"
    )
    reader_threads: Unrecorded[int] = Field(
        2, ge=1, description="threads of each process that read rows and make batches"
    )
    logging_steps: Unrecorded[int] = Field(50, ge=1, description="optimizer steps between log lines")
    wandb_project: Unrecorded[str | None] = Field(
        None, description="Weights & Biases project that also gets the logs; needs `pip install '.[wandb]'`"
    )
    eval_steps: Unrecorded[int | None] = Field(
        None, ge=1, description="optimizer steps between evaluations; there is always one at the end"
    )
    early_stopping_patience: Unrecorded[int | None] = Field(
        None,
        ge=1,
        description="stop after this many evaluations in a row without a better held-out NLL (mean over the languages that are read); "
        "default: never",
    )
    export: Unrecorded[Literal["last", "best"]] = Field(
        "last", description="which student to export at the end: that of the last step, or that of the best evaluation"
    )
    save_steps: Unrecorded[int] = Field(
        500, ge=1, description="optimizer steps between checkpoints; there is always one at the end"
    )
    save_total_limit: Unrecorded[int] = Field(
        2, ge=1, description="how many of the latest checkpoints to keep, besides that of the best evaluation"
    )
    model_card: Unrecorded[ModelCardConfig] = ModelCardConfig()

    @property
    def last_steps(self) -> list[int]:
        """The last step of each stage."""
        shares = (1 if stage.until is None else stage.until for stage in self.stages)
        return [round(share * self.max_steps) for share in shares]

    @model_validator(mode="after")
    def _stages(self):
        for index, stage in enumerate(self.stages):
            if (stage.until is None) != (index == len(self.stages) - 1):
                message = "every stage but the last needs an `until`, and the last must have none"
                raise fault_at("stages", index, "until", message=message)
        for index, (before, after) in enumerate(pairwise([0, *self.last_steps])):
            if after <= before:
                message = (
                    f"stage {index + 1} would end at step {after}, but it begins after step {before}; raise its `until`"
                )
                raise fault_at("stages", index, "until", message=message)
        return self

    @model_validator(mode="after")
    def _evaluation(self):
        if self.eval_steps and not self.heldout:
            raise ValueError(
                "eval_steps is the time between evaluations on held-out data: set heldout, or leave it out"
            )
        if self.early_stopping_patience and not (self.heldout and self.eval_steps):
            raise ValueError("early_stopping_patience counts evaluations on held-out data: set heldout and eval_steps")
        if self.export == "best" and not self.heldout:
            raise ValueError("export: best needs evaluations: set heldout")
        return self

    @model_validator(mode="after")
    def _warmup(self):
        if self.optimizer.warmup_steps > self.max_steps:
            raise ValueError(
                f"optimizer.warmup_steps ({self.optimizer.warmup_steps}) is more than max_steps ({self.max_steps})"
            )
        return self
