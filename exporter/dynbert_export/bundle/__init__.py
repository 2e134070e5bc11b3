"""From graphs and findings to a published bundle."""
