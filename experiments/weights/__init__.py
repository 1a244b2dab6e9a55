"""Where weights come from: bundled checkpoints, published folders, and the networks that metrics need."""
