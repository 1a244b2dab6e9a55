"""Time a hot path, estimate an update on devices that are not here, and look at this machine."""
