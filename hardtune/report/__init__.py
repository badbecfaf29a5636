"""Reads what a sweep left: records, the Pareto front, its table and figure."""
