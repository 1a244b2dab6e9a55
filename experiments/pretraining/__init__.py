"""Training a tokenizer and a transformer on data sets, from nothing or from a model that is there (paper section 4.1)."""
