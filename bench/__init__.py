"""Benchmarks: how quick Sunabox is, beside plain `moto_server` in the same run where the two can be compared.

Not a part of the tests: a busy machine makes numbers, not failures. See README.md for how to read them.
"""
