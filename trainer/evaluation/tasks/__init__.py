"""The tasks: each module reads its files, says which jobs there are for a model, and scores a model."""
