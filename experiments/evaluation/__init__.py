"""How good predicted videos are (paper section 4.1): the field's metrics, and what they do not see."""
