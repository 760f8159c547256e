"""The demo: three teachers of three families become one student. `python -m examples.demo`."""
