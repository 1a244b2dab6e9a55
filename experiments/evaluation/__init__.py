"""Measure how well a model predicts video that it has not learned from, and show it."""
