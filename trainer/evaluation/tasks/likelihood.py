"""Pseudo-likelihood: a model's bits per character of held-out text."""

from trainer.evaluation.models import Model
from trainer.evaluation.pseudo_likelihood import score_texts
from trainer.evaluation.tasks.plain_text import PlainTextTask
from trainer.evaluation.tasks.task import Job, Metric, Ratio, Scores


class Likelihood(PlainTextTask):
    """Bits per character of text, by `trainer.evaluation.pseudo_likelihood`. A unit is a record, however long.

    Models with different tokenizers are comparable because:
      - The denominator depends only on the text: its characters in NFC, white space included.
      - Words depend only on the text too (`trainer.evaluation.words`), and a token never sees the rest of its word.
      - Special tokens around a piece are not scored.
      - An unknown token costs its own bits plus 20.1 (`UNKNOWN_BITS`) for each character that it hides.

    The remaining differences are in the figures, as shares of all characters: `changed_characters` are those that the
    tokenizer changes (it lowers case, drops accents; white space is not counted), so the model need not predict them;
    `unknown_characters` are those in unknown tokens.
    """

    key, title = "likelihood", "pseudo-likelihood"
    metrics = (Metric("bits_per_character", "bits per character", higher_is_better=False),)
    needs_mask_token = True
    settings = ("max_length",)

    def run(self, job: Job, model: Model) -> list[Scores]:
        """Measures bits per character of the job's language."""
        scores = score_texts(
            self.texts[job.language], model, job.language, self.config.max_length, self.config.batch_tokens
        )
        ratios = {"bits_per_character": Ratio(scores.bits_N, scores.characters_N.astype(float))}
        characters = int(scores.characters_N.sum())
        figures = {
            "changed_characters": int(scores.changed_N.sum()) / characters,
            "unknown_characters": int(scores.unknown_N.sum()) / characters,
        }
        return [Scores(job.language, ratios, figures)]
