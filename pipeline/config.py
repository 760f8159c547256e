"""The pipeline's configuration."""

import math
from operator import not_
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, field_validator, model_validator

from schemas.config import Config, OrFile, Unrecorded, fault_at
from schemas.corpus.config import MAX_RECORD_BYTES, Text
from schemas.names import Name
from schemas.paths import PathOrUrl
from schemas.vocabulary import FIXED_COLUMNS


def _checked_language_share(value: Any) -> Any:
    if value == "all" or (type(value) in (int, float) and 0 < value < 1):
        return value
    raise ValueError(f"expected `all` or a number between 0 and 1, not {value!r}")


# `all` records of a language, or a share of the records that the teachers with numbers divide among themselves.
LanguageShare = Annotated[
    Literal["all"] | float,
    BeforeValidator(
        _checked_language_share, json_schema_input_type=Literal["all"] | Annotated[float, Field(gt=0, lt=1)]
    ),
]
Names = Annotated[list[Name], Field(min_length=1)]


def _as_shares(value: Any) -> Any:
    """Converts a bare list of languages to all records of each."""
    if not isinstance(value, list):
        return value
    names = TypeAdapter(Names).validate_python(value)
    if len(set(names)) < len(names):
        raise ValueError("has a language twice")
    return dict.fromkeys(names, "all")


Languages = Annotated[
    dict[Name, LanguageShare], BeforeValidator(_as_shares, json_schema_input_type=dict[Name, LanguageShare] | Names)
]


class MixedModel(Config):
    """Another model of a teacher, with the vocabulary of the first."""

    model: PathOrUrl = Field(description="local folder or hub id")
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    weight: float = Field(
        gt=0,
        lt=1,
        description="its weight in the mean; the teacher's first model gets the rest, so the weights sum to less than 1",
    )


class TeacherConfig(Config):
    """One pre-trained masked LM, or several with one vocabulary whose predictions are averaged."""

    model: PathOrUrl = Field(description="local folder or hub id that AutoTokenizer and AutoModelForMaskedLM load")
    languages: Languages = Field(
        min_length=1,
        description="the languages it teaches, each a key of `text`: a list, for all records of each language, or a "
        "mapping of each language to `all` or to a share such as 0.6. The shares of a language must sum to 1; they divide "
        "its records among the teachers that have a share",
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    mixed_with: list[MixedModel] = Field(
        [],
        description="further models with the same vocabulary: at each masked position, the teacher's distribution is the "
        "weighted mean of their distributions and that of `model`. A student that starts from the teacher takes the "
        "weights of `model`",
    )
    trust_remote_code: bool = Field(
        False, description="run Python code that comes with `model` and with the models of `mixed_with`"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="inference precision; auto is bfloat16 on a GPU that supports it or a CPU with AMX, else float32. "
        "bfloat16 is several times faster, and changes log-probabilities by about 0.05 nats",
    )
    device: str = Field("auto", description="torch device; auto is cuda if there is one, else cpu")
    torch_compile: bool = Field(
        False,
        description="use torch.compile for the pass over the logits, which then reads them only once; needs a C "
        "compiler, or on a CPU a C++ compiler. On a GPU, compiled code may round differently in another process, so the same "
        "bytes are not guaranteed",
    )

    min_ram: Unrecorded[str | None] = Field(
        None,
        pattern=r"^[0-9]+(\.[0-9]+)? ?[KMGT]i?B$",
        description="memory that a worker of this teacher needs, such as 16GB; used by runners that choose machines by memory",
    )
    accelerator: Unrecorded[str | None] = Field(
        None,
        min_length=1,
        description="accelerator of this teacher's workers in Dataflow's syntax, such as "
        "`type:nvidia-l4;count:1;install-nvidia-driver`",
    )

    @field_validator("mixed_with")
    @classmethod
    def _weights_leave_a_rest(cls, mixed_with: list[MixedModel]) -> list[MixedModel]:
        if (total := math.fsum(part.weight for part in mixed_with)) >= 1:
            raise ValueError(
                f"the weights sum to {total:g}, which leaves nothing for `model`; make their sum less than 1"
            )
        return mixed_with

    @property
    def resource_hints(self) -> dict[str, str]:
        """Beam's hints about the workers that the teacher needs."""
        hints = {"min_ram": self.min_ram, "accelerator": self.accelerator}
        return {name: hint for name, hint in hints.items() if hint}

    @property
    def parts(self) -> "list[TeacherConfig]":
        """Each of its models as a separate teacher, the first one first."""
        alone = self.model_copy(update={"mixed_with": []})
        others = [{"model": part.model, "revision": part.revision} for part in self.mixed_with]
        return [alone, *(alone.model_copy(update=other) for other in others)]

    @property
    def weights(self) -> list[float]:
        """The weights of its models; they sum to 1."""
        others = [part.weight for part in self.mixed_with]
        return [1 - math.fsum(others), *others]


class MaskingConfig(Config):
    """Which tokens become targets and what replaces them (BERT's recipe)."""

    former_names: ClassVar = {
        "rate": "mlm_probability",
        "mask": "mask_replace_prob",
        "random": "random_replace_prob",
    }

    mlm_probability: float = Field(
        0.15, gt=0, lt=1, description="share of a sequence's ordinary (not special) tokens that become targets"
    )
    mask_replace_prob: float = Field(0.8, ge=0, le=1, description="share of the targets replaced by the mask token")
    random_replace_prob: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of the targets replaced by a random ordinary token of the teacher; the remaining targets "
        "are kept",
    )
    copies: int = Field(1, ge=1, description="how many copies of each sequence to make, each masked differently")
    whole_words: bool = Field(
        False,
        description="choose whole words instead of tokens; words are what the teacher's tokenizer splits text into "
        "before it looks for tokens, and with SentencePiece what is between two spaces. In a word of more than 8 tokens "
        "(a clause, in scripts without spaces), single tokens are chosen",
    )

    @model_validator(mode="after")
    def _shares(self):
        if (replaced := self.mask_replace_prob + self.random_replace_prob) > 1:
            raise ValueError(f"mask_replace_prob + random_replace_prob is {replaced}; lower them to a sum of at most 1")
        return self


class PipelineConfig(Config):
    """Stage one: what to read, who predicts, what to keep."""

    former_names: ClassVar = {"identity": "token_identity", "threads": "inference_threads"}

    output: Unrecorded[PathOrUrl] = Field(description="folder or fsspec URL for the predictions")
    extends: Unrecorded[PathOrUrl | None] = Field(
        None,
        description="folder or URL of an earlier run: this run's teachers add to its merged vocabulary, and all its "
        "ids stay, so that a student can be trained on both folders",
    )
    teachers: Unrecorded[OrFile[dict[Name, TeacherConfig]]] = Field(
        min_length=1,
        description="the teachers by name, or the path of a YAML file that holds them, relative to this file's folder; "
        "the order of the teachers decides the order of the merged ids",
    )
    text: Unrecorded[dict[Name, Text]] = Field(
        min_length=1, description="the text of each language; a bare path or list means `files`"
    )
    top_k: int = Field(
        8,
        ge=0,
        description="predictions kept for each masked position; 0 runs no teacher model (only its tokenizer) "
        "and gives rows for plain masked-LM training",
    )
    tail_samples: int = Field(
        0,
        ge=0,
        # A shard of 4 MiB has about 150,000 masked positions, and a column of lists holds fewer than 2**31 values.
        le=1024,
        # Left out of a run without samples, so that folders begun before sampling existed can be finished.
        exclude_if=not_,
        description="tokens kept for each masked position, drawn from the teacher's distribution outside the top_k, in "
        "proportion to their probabilities; they make the loss unbiased (`tail: sampled` of the trainer)",
    )
    seed: int = Field(
        0,
        ge=0,
        lt=2**63,
        description="together with each example id, decides the masks and the tail_samples; also decides which record goes to "
        "which teacher if several teachers divide a language",
    )
    max_length: int = Field(
        128, ge=4, description="most tokens of a sequence, special tokens included; longer records are split"
    )
    min_length: int = Field(4, ge=1, description="records with fewer tokens, special tokens not counted, are rejected")
    max_record_bytes: int = Field(
        MAX_RECORD_BYTES,
        ge=1,
        description="longer records (lines, JSON lines or Parquet values) are rejected, because they are probably not text; "
        "the default is the size of a whole book, and a process holds a shard of that size anyway",
    )
    packing: bool = Field(
        False,
        description="fill sequences up to max_length with consecutive records, with the teacher's separator between "
        "them; a sequence does not cross the end of its shard, so packed rows, unlike others, depend on shard_bytes and on "
        "the sizes of the files",
    )
    masking: MaskingConfig = MaskingConfig()
    token_identity: Literal["family", "string"] = Field(
        "family",
        description="when tokens of two teachers count as one: `family` compares what they stand for, `string` "
        "compares their strings",
    )
    max_rejected: Unrecorded[float] = Field(
        0.5, ge=0, le=1, description="the run fails if more than this share of a language's records is rejected"
    )
    max_failed: Unrecorded[int] = Field(
        0,
        ge=0,
        description="how many failed shards a run may leave out; if more fail, the run fails. Running the command again tries "
        "them again",
    )
    audit_rows: int = Field(
        64,
        ge=0,
        description="rows of each language and teacher whose stored predictions are compared with the teacher's full "
        "distribution",
    )
    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="most tokens, with padding, in a batch of teacher inference; default: 2048 on a CPU, 16384 on a GPU",
    )
    inference_threads: Unrecorded[int | None] = Field(
        None,
        ge=1,
        description="batches that a process predicts at the same time on a CPU; default: the number of cores, divided "
        "by the number of local processes of the runner",
    )
    teachers_in_memory: Unrecorded[int] = Field(
        1, ge=1, description="teacher models that a process holds at the same time"
    )
    shard_bytes: int = Field(
        4 * 2**20,
        ge=1,
        description="bytes of text in a shard. A shard becomes one Parquet file; a worker that dies loses the shard that it works on",
    )
    row_group_rows: int = Field(2048, ge=1, description="rows in a Parquet row group: the trainer's unit of reading")

    @model_validator(mode="after")
    def _languages(self):
        known = ", ".join(self.text)
        for name, teacher in self.teachers.items():
            if name in FIXED_COLUMNS:
                message = f"a teacher cannot be called {name!r}, which is a column of the vocabulary table"
                raise fault_at("teachers", name, message=message)
            for language in teacher.languages:
                if language not in self.text:
                    message = f"`text` does not have the language {language!r}, only: {known}"
                    raise fault_at("teachers", name, "languages", language, message=message)
        taught = {language for teacher in self.teachers.values() for language in teacher.languages}
        if self.tail_samples and not self.top_k:
            raise fault_at(
                "tail_samples",
                message="tail samples are drawn outside the top_k, and top_k is 0; set top_k to 1 or more",
            )
        for language in self.text:
            if language not in taught:
                raise fault_at(
                    "text",
                    language,
                    message=f"no teacher has {language!r} in its languages; add it to one, or remove it from `text`",
                )
            shares = self.shares(language)
            if shares and not math.isclose(total := math.fsum(shares.values()), 1, abs_tol=1e-9):
                listed = ", ".join(f"{name} {share:g}" for name, share in shares.items())
                message = f"the teachers' shares of {language!r} ({listed}) sum to {total:g}, not 1"
                raise fault_at("teachers", next(iter(shares)), "languages", language, message=message)
        if self.min_length > self.max_length:
            raise ValueError(f"min_length ({self.min_length}) is more than max_length ({self.max_length})")
        return self

    def shares(self, language: str) -> dict[str, float]:
        """Returns the share of the language's records for each teacher that has a number, in the teachers' order."""
        shares = {name: teacher.languages.get(language) for name, teacher in self.teachers.items()}
        return {name: share for name, share in shares.items() if isinstance(share, float)}
