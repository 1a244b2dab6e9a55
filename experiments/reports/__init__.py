"""Runs as tables, plots, pages and videos."""
