"""The whole run: plan, check, hand the units of work to Beam's workers, show progress, commit the manifest.

This is the top layer: it may import all others, and only `pipeline.__main__` imports it. Tests are in
`tests/pipeline/job` and `tests/system`.
"""
