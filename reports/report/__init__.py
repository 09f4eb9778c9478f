"""The report of a suite: one tree of numbers, and the tables, figures and pages that read it."""
