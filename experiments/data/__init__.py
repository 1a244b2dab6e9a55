"""Recordings on disk, segments of them in batches, and converters from the field's formats.

A data set folder (`store.py`) is what every converter writes and what the loader reads; `mixture.py` knows the published
pre-training mixture. Needs the extra `data`.
"""
