"""Tests of `schemas.corpus`."""
