"""DreamerV3 (Hafner et al., 2023; Nature 2025): an agent that learns in the latent space of a recurrent world model."""
