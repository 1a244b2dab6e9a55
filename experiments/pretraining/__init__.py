"""Train the tokenizer and the transformer on data sets, from nothing or from a model that is there."""
