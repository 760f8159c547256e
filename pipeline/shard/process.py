"""Processes one shard: tokenize, mask, predict, encode.

The result depends only on the shard and the settings. So `shard_bytes` bounds memory on every runner, and a shard gives
the same rows wherever and however often it runs.

Legend: N examples (a sequence is one example for each of its copies), T tokens of all examples, M masked positions,
K top-k, S tail samples.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.config import PipelineConfig
from pipeline.shard.audit import audit
from pipeline.shard.masking import Masked, MaskingVocabulary, example_keys, mask_tokens, uniform
from pipeline.shard.parquet import AuditSums, Receipt, encode_rows
from pipeline.shard.sequences import Reject, Sequences, make_sequences
from pipeline.shard.shard import Shard
from pipeline.shard.tail_uniforms import tail_uniforms
from pipeline.shard.written import Written
from pipeline.teachers.loading import Teacher
from pipeline.teachers.predictor import NotFinite, Predictions
from schemas.errors import UserError
from schemas.footers import Footer
from schemas.ragged import list_array
from schemas.rows import row_schema
from schemas.storage import join, write_bytes

# The counter for the random numbers that choose rows to audit. Masking uses 0 and counters from 2**32 on.
_AUDIT = np.uint64(2**31)

# Called during prediction with (tokens done, total tokens, total rows).
Progress = Callable[[int, int, int], None]


def _no_progress(done: int, tokens: int, rows: int) -> None:
    pass


@dataclass(frozen=True)
class Examples:
    """N masked examples, in the teacher's token ids.

    Attributes:
      ids: the examples' ids (`example_id` in `schemas.rows`), N strings.
      keys_N: uint64, from which their random numbers are computed (`pipeline.shard.masking`).
      lengths_N: int64, their numbers of tokens.
      masked: the concatenated tokens of all examples.
    """

    ids: list[str]
    keys_N: np.ndarray
    lengths_N: np.ndarray
    masked: Masked

    @property
    def row_M(self) -> np.ndarray:
        """The example of each masked position."""
        return np.searchsorted(np.cumsum(self.lengths_N), self.masked.targets_M, side="right")

    @property
    def positions_M(self) -> np.ndarray:
        """Each masked position, relative to the start of its example."""
        starts_N = np.cumsum(self.lengths_N) - self.lengths_N
        return self.masked.targets_M - starts_N[self.row_M]


@dataclass(frozen=True)
class ShardProcessor:
    """Turns the shards of one teacher into files.

    Attributes:
      run_sha256: fingerprint of everything that determines the rows; stored in each file's footer.
    """

    config: PipelineConfig
    teacher: Teacher
    run_sha256: str

    def process(self, shard: Shard, progress: Progress = _no_progress) -> Written:
        """Writes a shard's rejects and then its Parquet file.

        Args:
          progress: called during prediction with (tokens done, total tokens, total rows).

        Raises:
          UserError: the tokenizer fails on the text, or the teacher gave a NaN or infinity (names the example).
        """
        tokenized = make_sequences(shard.records, self.teacher.tokenizer, self.config)
        rows = self.make_rows(shard, tokenized.sequences, progress)
        receipt = self._receipt(shard, tokenized.records, tokenized.rejects, rows)
        self._write_rejects(shard, tokenized.rejects)
        return self._write_rows(shard, rows, receipt)

    def make_rows(self, shard: Shard, sequences: Sequences, progress: Progress = _no_progress) -> pa.Table:
        """Makes the rows (`schemas.rows`) of a shard's sequences: all in order, then all again for each further copy.

        So two copies of a sequence are never adjacent in training. Raises UserError like `process`.
        """
        examples = self._mask(shard, sequences)
        predictions = self._predict(examples, progress)
        return self._encode(shard, examples, predictions)

    def _mask(self, shard: Shard, sequences: Sequences) -> Examples:
        copies = self.config.masking.copies
        example_ids = [
            f"{shard.language}:{shard.teacher}:{source}:{record}:{number}:{copy}"
            for copy in range(copies)
            for source, record, number in zip(
                sequences.sources, sequences.record_N.tolist(), sequences.number_N.tolist(), strict=True
            )
        ]
        tokenizer = self.teacher.tokenizer
        vocabulary = MaskingVocabulary(tokenizer.special_ids, tokenizer.ordinary_ids, tokenizer.roles["mask"])
        tokens = sequences.tokens.repeat(copies)
        keys_N = example_keys(self.config.seed, example_ids)
        return Examples(
            example_ids, keys_N, tokens.lengths_N, mask_tokens(tokens, keys_N, vocabulary, self.config.masking)
        )

    def _predict(self, examples: Examples, progress: Progress) -> Predictions:
        """Returns the teacher's predictions at all masked positions; none if no teacher is run."""
        predictor = self.teacher.predictor
        if not predictor:
            no_ids = np.empty((0, 0), np.int32)
            return Predictions(np.empty(0, np.float32), no_ids, np.empty((0, 0), np.float16), no_ids)
        masked, lengths_N = examples.masked, examples.lengths_N
        keys_M, positions_M = examples.keys_N[examples.row_M], examples.positions_M
        tail_samples = self.config.tail_samples
        done = 0

        def count(tokens: int) -> None:
            nonlocal done
            done += tokens
            progress(done, len(masked.input_ids_T), len(lengths_N))

        try:
            return predictor.predict(
                masked.input_ids_T,
                lengths_N,
                masked.targets_M,
                masked.labels_M,
                self.config.batch_tokens,
                count,
                tail_samples,
                lambda index_M: tail_uniforms(keys_M[index_M], positions_M[index_M], tail_samples),
            )
        except NotFinite as error:
            row = examples.row_M[error.target]
            raise UserError(
                f"teacher {self.teacher.tokenizer.name!r} gave a NaN or infinite log-probability in example "
                f"{examples.ids[row]!r}; try `dtype: float32` for this teacher, in a new output"
            ) from None

    def _encode(self, shard: Shard, examples: Examples, predictions: Predictions) -> pa.Table:
        """Returns the table of rows, in merged ids."""
        masked, to_merged = examples.masked, self.teacher.to_merged
        top_k, tail_samples = self.config.top_k, self.config.tail_samples
        offsets = np.concatenate([[0], np.cumsum(examples.lengths_N)])
        target_offsets = np.searchsorted(masked.targets_M, offsets)
        prediction_offsets = target_offsets if self.teacher.predictor else np.zeros_like(target_offsets)
        columns = {
            "example_id": pa.array(examples.ids, pa.string()),
            "language": pa.array([shard.language] * len(examples.ids), pa.string()),
            "teacher": pa.array([shard.teacher] * len(examples.ids), pa.string()),
            "input_ids": list_array(to_merged[masked.input_ids_T], offsets),
            "masked_positions": list_array(examples.positions_M.astype(np.int32), target_offsets),
            "labels": list_array(to_merged[masked.labels_M], target_offsets),
            "label_logprobs": list_array(predictions.label_logprobs, prediction_offsets),
            "topk_ids": list_array(to_merged[predictions.topk_ids.ravel()], prediction_offsets * top_k),
            "topk_logprobs": list_array(predictions.topk_logprobs.ravel(), prediction_offsets * top_k),
        }
        if tail_samples:
            columns["tail_ids"] = list_array(to_merged[predictions.tail_ids.ravel()], target_offsets * tail_samples)
        return pa.table(columns, schema=row_schema(tail_samples))

    def _receipt(self, shard: Shard, records: int, rejects: list[Reject], rows: pa.Table) -> Receipt:
        reasons = [reject.reason for reject in rejects]
        predictor = self.teacher.predictor
        return Receipt(
            records=records,
            used=records - len(rejects),
            rejected={reason: reasons.count(reason) for reason in sorted(set(reasons))},
            rows=len(rows),
            tokens=len(rows["input_ids"].combine_chunks().values),
            masked_positions=len(rows["labels"].combine_chunks().values),
            dtype=str(predictor.dtype).removeprefix("torch.") if predictor else "",
            audit=self._audit(shard, rows),
        )

    def _audit(self, shard: Shard, rows: pa.Table) -> AuditSums:
        """Audits the rows with the smallest random numbers, which depend on the seed and the rows' ids."""
        predictor = self.teacher.predictor
        if not (predictor and shard.audit_rows and len(rows)):
            return AuditSums()
        keys_N = example_keys(self.config.seed, rows["example_id"].to_pylist())
        chosen = np.argsort(uniform(keys_N, np.full(len(keys_N), _AUDIT)), kind="stable")[: shard.audit_rows]
        rows = rows.take(np.sort(chosen))
        return audit(rows, self.teacher.to_teacher, predictor, self.config.top_k, self.config.tail_samples)

    def _write_rejects(self, shard: Shard, rejects: list[Reject]) -> None:
        if rejects:
            lines = [json.dumps(reject._asdict()) + "\n" for reject in rejects]
            write_bytes(join(self.config.output, shard.rejects_path), "".join(lines).encode())

    def _write_rows(self, shard: Shard, rows: pa.Table, receipt: Receipt) -> Written:
        content = encode_rows(
            rows,
            self.config.top_k,
            self.teacher.vocabulary_sha256,
            self.run_sha256,
            receipt.model_dump_json(),
            self.config.row_group_rows,
            tail_samples=self.config.tail_samples,
        )
        write_bytes(join(self.config.output, shard.path), content)
        return Written.of(shard, Footer.of(content, len(content)), receipt)
