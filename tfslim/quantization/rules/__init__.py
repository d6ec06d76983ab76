"""Recipes, and the rules for what is quantized how and what stays float."""
