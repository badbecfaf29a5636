"""Reports on a sweep's results: records, the Pareto front, its table and figure."""
