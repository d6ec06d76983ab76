"""Which Keras layer an op of the file comes from, and what each layer costs."""
