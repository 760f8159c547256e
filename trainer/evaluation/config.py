"""The evaluation's configuration."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from schemas.config import Config, Unrecorded
from schemas.corpus.config import Text
from schemas.names import Name
from schemas.paths import LocalFolder, PathOrUrl, PathsOrUrls
from schemas.vocabulary import FIXED_COLUMNS


class ModelConfig(Config):
    """One model: a teacher, a student, or any other masked LM."""

    model: PathOrUrl = Field(description="local folder or hub id that transformers loads")
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")
    languages: list[Name] | None = Field(
        None,
        min_length=1,
        description="the languages that the model was made for: it is scored on their text and fine-tuned on their labels, "
        "but tested on the labels of all languages. Default: all languages",
    )
    tokenizer: Literal["language", "default"] = Field(
        "language",
        description="for a student of this trainer: `language` uses the tokenizer of each language, which segments as its "
        "teacher does; `default` uses the default tokenizer for all languages. Other models have only one tokenizer",
    )
    teachers: dict[Name, Name] = Field({}, description="by language, the model in `models` to compare this one with")

    def is_for(self, language: str) -> bool:
        """Whether the model was made for a language."""
        return self.languages is None or language in self.languages


class LabelledConfig(Config):
    """The labelled files of one language."""

    train: PathsOrUrls | None = Field(
        None, description="files to fine-tune models on; without them, the language is only tested"
    )
    test: PathsOrUrls | None = Field(None, description="files to test models on")

    @model_validator(mode="after")
    def _something(self):
        if not (self.train or self.test):
            raise ValueError("give `train`, `test`, or both")
        return self


class ParallelConfig(Config):
    """Two files whose lines are translations of one another."""

    languages: tuple[Name, Name] = Field(description="the languages of the two files")
    files: tuple[PathOrUrl, PathOrUrl] = Field(description="the two files, one sentence per line")
    validation: tuple[PathOrUrl, PathOrUrl] | None = Field(
        None,
        description="two more such files, on which the best layer is chosen; without them, it is chosen on every fifth "
        "pair of `files`, and these pairs are not scored",
    )


class FineTuningConfig(Config):
    """How models are fine-tuned, the same for all."""

    learning_rate: float = Field(5e-5, gt=0, lt=1, description="the learning rate at the end of the warm-up")
    epochs: float = Field(3, gt=0, description="passes over the training examples")
    batch_size: int = Field(32, ge=1, description="examples per step")
    max_length: int = Field(
        128,
        ge=8,
        description="most tokens of an example; longer ones are cut: words with labels into pieces, other text at the end",
    )
    max_train_examples: int | None = Field(
        None, ge=1, description="use only this many examples, from the beginning of the files; default: all"
    )


class ComparisonConfig(Config):
    """Candidates for teachers, ranked for each language of `text`."""

    routing: Unrecorded[PathOrUrl] = Field(
        description="file to write: the best teacher of each language, as a `teachers` section for the pipeline"
    )
    candidates: list[Name] | None = Field(
        None, min_length=2, description="models to rank; default: all of `models`, in their order"
    )
    corpora: dict[Name, Text] = Field(
        {},
        description="by language, the text that its teacher will read, to estimate the hours that each candidate would "
        "take. The bytes of this text are estimated from the sizes of plain text files and from samples of other files",
    )


class EvaluationConfig(Config):
    """Which models are evaluated, and on which tasks."""

    output: Unrecorded[LocalFolder] = Field(description="local folder for scores and report")
    title: Unrecorded[str | None] = Field(
        None, min_length=1, description="title of the report. Default the name of the output folder"
    )
    models: dict[Name, ModelConfig] = Field(min_length=1, description="the models by name")
    text: dict[Name, Text] = Field(
        {},
        description="by language, text that no model was trained on, read as the pipeline reads it: for bits per "
        "character, masked tokens, tokens per word and speed",
    )
    minimal_pairs: dict[Name, PathsOrUrls] = Field(
        {}, description="by language, TSV files with the columns `sen` and `wrong_sen` (MultiBLiMP)"
    )
    tagging: dict[Name, LabelledConfig] = Field(
        {}, description="by language, words and their universal parts of speech: CoNLL-U or token TSV (XTREME)"
    )
    entities: dict[Name, LabelledConfig] = Field(
        {}, description="by language, words and IOB2 labels: token TSV (WikiANN)"
    )
    classification: dict[Name, LabelledConfig] = Field(
        {}, description="by language, TSV files of one or two sentences and a label"
    )
    question_answering: dict[Name, LabelledConfig] = Field({}, description="by language, files in SQuAD's JSON format")
    retrieval: dict[Name, ParallelConfig] = Field(
        {}, description="pairs of parallel files, each under a name of your choice"
    )
    comparison: ComparisonConfig | None = Field(None, description="rank models as teachers")
    fine_tuning: FineTuningConfig = FineTuningConfig()
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(
        [0], min_length=1, description="each fine-tuned task is run once with each seed, and the scores are averaged"
    )
    bootstrap_samples: int = Field(1000, ge=100, description="number of bootstrap samples for each interval")
    max_length: int = Field(
        128,
        ge=8,
        description="most tokens of a piece of text, special tokens included; longer records are cut into pieces",
    )
    top_k: int = Field(
        8,
        ge=1,
        description="how many of the most probable tokens at a masked position are its top predictions; the tail mass is the "
        "probability outside them",
    )
    batch_tokens: Unrecorded[int] = Field(4096, ge=1, description="most tokens, with padding, in a batch")
    update_model_cards: Unrecorded[bool] = Field(
        False, description="write the results into the metadata of the README.md of students of this trainer"
    )
    device: Unrecorded[str] = Field("auto", description="torch device; auto is cuda if there is one, else cpu")

    @model_validator(mode="after")
    def _names(self):
        for name, model in self.models.items():
            for language, teacher in model.teachers.items():
                if teacher not in self.models:
                    raise ValueError(f"models.{name}.teachers.{language}: there is no model {teacher!r} in `models`")
        return self

    @model_validator(mode="after")
    def _languages(self):
        known = self.languages
        for name, model in self.models.items():
            for field, given in (("languages", model.languages or ()), ("teachers", model.teachers)):
                # If there is no section at all, `tasks_of` reports that instead.
                if stray := [language for language in given if known and language not in known]:
                    raise ValueError(
                        f"models.{name}.{field}: no task has the language {stray[0]!r}; the tasks have: "
                        f"{', '.join(sorted(known))}"
                    )
        return self

    @field_validator("seeds")
    @classmethod
    def _different(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError("has a seed twice, which would give the same scores twice; remove one")
        return value

    @model_validator(mode="after")
    def _comparison(self):
        if not self.comparison:
            return self
        if not self.text:
            raise ValueError(
                "comparison: candidates are ranked by their predictions of `text`; give `text` for each language"
            )
        for name in self.comparison.candidates or []:
            if name not in self.models:
                raise ValueError(f"comparison.candidates: there is no model {name!r} in `models`")
        for name in self.candidates:
            if name in FIXED_COLUMNS:
                raise ValueError(
                    f"models.{name}: a teacher cannot be called {name!r}, which is a column of the vocabulary table; rename it"
                )
        if stray := [language for language in self.comparison.corpora if language not in self.text]:
            raise ValueError(f"comparison.corpora.{stray[0]}: `text` does not have the language {stray[0]!r}")
        return self

    @property
    def languages(self) -> list[str]:
        """All languages that something is evaluated in, in the order of the configuration."""
        sections: tuple[Iterable[str], ...] = (
            self.text, self.minimal_pairs, self.tagging, self.entities, self.classification, self.question_answering,
            *(pair.languages for pair in self.retrieval.values()),
        )  # fmt: skip
        return list(dict.fromkeys(language for section in sections for language in section))

    @property
    def candidates(self) -> list[str]:
        """The models that the comparison ranks, in the order of the configuration."""
        return list((self.comparison and self.comparison.candidates) or self.models)
