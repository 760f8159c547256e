"""Chooses teachers among candidates by the scores of an evaluation."""
