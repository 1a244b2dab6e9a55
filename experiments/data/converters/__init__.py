"""One file per format: each lists the episodes it finds and reads them one by one (`source.py`, `registry.py`)."""
