"""Recordings on disk, segments of them in batches, and converters from the field's formats. Needs the extra `data`.

A data set folder (`store.py`) is what every converter writes and what the loader reads; `mixture.py` knows the
published pre-training mixture.

    loader = Loader(LoaderConfig(batch=64), mixture.specs(root), host=jax.process_index(), hosts=jax.process_count())
    segments = next(loader)             # agent.replay.Segments of this host
    checkpoints.save(step, state, extra={"loader": loader.state()})
"""
