"""What is made of entries so that clients can look at them piecemeal: one module for each kind of derivative."""
