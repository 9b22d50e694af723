"""What a task is and what the words mean: pure values and rules, no input or output."""
