"""A run's results in the forms that other tools read."""
