"""Scores of single training examples: arrays or networks in, arrays out."""
