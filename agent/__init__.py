"""Learns to act: actor-critic, replay of episodes, the MBPO loop."""
