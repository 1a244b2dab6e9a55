"""Simulators behind one interface, and the episodes played in them."""
