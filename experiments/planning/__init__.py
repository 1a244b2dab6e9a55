"""plan: an agent without a policy, which acts by imagining, and how far that goes."""
