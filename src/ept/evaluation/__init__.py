"""Predictions from a prompted backbone, and their scores."""
