"""Train an agent, and the world model it has, on a task: one run from its first second to its report."""
