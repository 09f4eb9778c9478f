"""Measuring a model: samples, features, distance."""
