"""Loads a teacher: its tokenizer, its model, and the maps between its ids and merged ids."""

import os
from dataclasses import dataclass

import numpy as np

from pipeline.config import PipelineConfig
from pipeline.teachers.mixture import mixture_fingerprint
from pipeline.teachers.model import load_model, teacher_fingerprint
from pipeline.teachers.predictor import Predictor
from pipeline.teachers.tokenizer import TeacherTokenizer, load_tokenizer
from schemas.errors import UserError
from schemas.secrets import without_secrets
from schemas.vocabulary import Vocabulary


@dataclass(frozen=True)
class Teacher:
    """A loaded teacher and its place in the merged vocabulary.

    Attributes:
      predictor: None for `top_k: 0`.
      to_merged: int32 [the teacher's vocabulary], from the teacher's ids to merged ids.
      to_teacher: int64 [merged vocabulary], the reverse; -1 for tokens that the teacher lacks.
      vocabulary_sha256: the fingerprint of the merged vocabulary.
    """

    tokenizer: TeacherTokenizer
    predictor: Predictor | None
    to_merged: np.ndarray
    to_teacher: np.ndarray
    vocabulary_sha256: str


def load_teacher(
    name: str, config: PipelineConfig, vocabulary: Vocabulary, threads: int | None, fingerprint: str
) -> Teacher:
    """Loads a teacher; on a CPU it uses `threads` threads (None: all cores), unless the configuration sets them.

    Raises:
      UserError: like `pipeline.teachers.model`, or its fingerprint is not the one that the run began with.
    """
    teacher = config.teachers[name]
    tokenizer = load_tokenizer(name, teacher)
    models = [load_model(name, part) for part in teacher.parts] if config.top_k else []
    fingerprints = [teacher_fingerprint(tokenizer, model) for model in models]
    current = mixture_fingerprint(fingerprints, teacher.weights) if models else tokenizer.fingerprint
    if current != fingerprint:
        raise UserError(
            f"teacher {name!r} ({without_secrets(teacher.model)}) has fingerprint {current[:12]} here, but had "
            f"{fingerprint[:12]} when the run began; pin `revision` to a commit"
        )
    threads = config.inference_threads or threads or os.cpu_count() or 1
    predictor = None
    if models:
        first, *others = models
        predictor = Predictor(first, tokenizer, teacher, config.top_k, threads, config.max_length, others)
    return Teacher(
        tokenizer=tokenizer,
        predictor=predictor,
        to_merged=vocabulary.to_merged(name),
        to_teacher=vocabulary.teacher_ids[name],
        vocabulary_sha256=vocabulary.sha256,
    )
