"""Tests of `pipeline.student_tokenizers`."""
