"""The tasks: each module reads its files, lists the jobs of a model, and scores a model."""
