"""Configs that ship with tfslim: `--config=NAME` takes each."""
