"""Weights in and out, and export to where a model must run."""
