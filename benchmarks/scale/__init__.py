"""Costs that grow with the size of a run, compared with a run of a tenth of it."""
