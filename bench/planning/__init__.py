"""What is trained: suites, run specs, plans, costs."""
