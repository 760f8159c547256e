"""Shared code of the tests: the small world, helpers, and servers. No test is here, and no test file imports another."""
