"""Which candidates to take as teachers, from the scores of an evaluation."""
